package frame

import (
	"fmt"
	"math"
	"time"
)

// Invoke is the head of an INVOKE frame: everything about a call but its payload.
type Invoke struct {
	RequestID string
	// Attempt counts from 1.
	Attempt uint32
	// Remaining is the time left until the caller's deadline when the frame was written; zero means none.
	Remaining time.Duration

	App, Function string
	Version       uint64
	// Node is the id of the node that runs the call.
	Node        string
	ContentType string
	// Trace is a W3C traceparent, or empty.
	Trace string
	// Depth counts how many functions called each other up to this call.
	Depth      uint8
	Attributes Attributes
}

var _ Appender = (*Invoke)(nil)

// AppendTo appends the encoded message.
func (m *Invoke) AppendTo(b []byte) []byte {
	b = AppendString(b, m.RequestID)
	b = AppendUint(b, uint64(m.Attempt))
	b = AppendDuration(b, m.Remaining)
	b = AppendString(b, m.App)
	b = AppendString(b, m.Function)
	b = AppendUint(b, m.Version)
	b = AppendString(b, m.Node)
	b = AppendString(b, m.ContentType)
	b = AppendString(b, m.Trace)
	b = AppendUint(b, uint64(m.Depth))
	return AppendAttributes(b, m.Attributes)
}

// Parse decodes head into m. The strings do not share memory with head.
func (m *Invoke) Parse(head []byte) error {
	d := NewDecoder(head)
	return m.ParseFrom(&d)
}

// ParseFrom decodes m from a message that holds it as its last part.
func (m *Invoke) ParseFrom(d *Decoder) error {
	m.RequestID = d.String()
	m.Attempt = d.uint32()
	m.Remaining = d.Duration()
	m.App = d.String()
	m.Function = d.String()
	m.Version = d.Uint()
	m.Node = d.String()
	m.ContentType = d.String()
	m.Trace = d.String()
	m.Depth = uint8(min(d.Uint(), math.MaxUint8))
	m.Attributes = d.Attributes()
	return d.Err()
}

// Stats are what an instance measured itself about one call.
type Stats struct {
	// Run is the time in the handler.
	Run time.Duration
	// Init is the time that initialisation took, in the reply to an instance's first call only.
	Init time.Duration
	// CPU is the processor time of the whole process during the call; with several calls at once it counts
	// theirs too.
	CPU time.Duration
	// PeakMemory is the greatest resident size of the process so far, in bytes; zero if unknown.
	PeakMemory uint64
}

// Result is the head of a RESULT frame.
type Result struct {
	ContentType string
	// Status is an HTTP status for callers that speak HTTP; zero leaves the choice to the node.
	Status     uint16
	Attributes Attributes
	Stats      Stats
}

var _ Appender = (*Result)(nil)

// AppendTo appends the encoded message.
func (m *Result) AppendTo(b []byte) []byte {
	b = AppendString(b, m.ContentType)
	b = AppendUint(b, uint64(m.Status))
	b = AppendAttributes(b, m.Attributes)
	b = AppendDuration(b, m.Stats.Run)
	b = AppendDuration(b, m.Stats.Init)
	b = AppendDuration(b, m.Stats.CPU)
	return AppendUint(b, m.Stats.PeakMemory)
}

// Parse decodes head into m. The strings do not share memory with head.
func (m *Result) Parse(head []byte) error {
	d := NewDecoder(head)
	return m.ParseFrom(&d)
}

// ParseFrom decodes m from a message that holds it as its last part.
func (m *Result) ParseFrom(d *Decoder) error {
	m.ContentType = d.String()
	m.Status = uint16(min(d.Uint(), math.MaxUint16))
	m.Attributes = d.Attributes()
	m.Stats = Stats{Run: d.Duration(), Init: d.Duration(), CPU: d.Duration(), PeakMemory: d.Uint()}
	return d.Err()
}

// FailureKind says whose fault a failure is.
type FailureKind uint8

const (
	// KindFunction is an error that the handler returned.
	KindFunction FailureKind = iota
	// KindUnhandled is a panic in the handler.
	KindUnhandled
	// KindInit is a failed initialisation.
	KindInit
	// KindPlatform is an error of the platform, not of the function.
	KindPlatform
)

// Failure is the body of an ERROR frame. It is an error so that a stream can end with one.
type Failure struct {
	Kind FailureKind
	// Type is a short stable name that a caller can branch on, such as "ValidationError".
	Type    string
	Message string
	// Stack is empty unless the function panicked or supplied one.
	Stack string
}

var _ Appender = (*Failure)(nil)

// Error returns type and message.
func (m *Failure) Error() string {
	if m.Type == "" {
		return m.Message
	}
	return m.Type + ": " + m.Message
}

// maxStack keeps a failure inside one frame whatever a deep recursion left behind.
const maxStack = 64 << 10

// AppendTo appends the encoded message, its texts cut to 64 KiB each.
func (m *Failure) AppendTo(b []byte) []byte {
	b = AppendUint(b, uint64(m.Kind))
	b = AppendString(b, cut(m.Type))
	b = AppendString(b, cut(m.Message))
	return AppendString(b, cut(m.Stack))
}

// Parse decodes body into m.
func (m *Failure) Parse(body []byte) error {
	d := NewDecoder(body)
	m.Kind = FailureKind(min(d.Uint(), uint64(KindPlatform)))
	m.Type = d.String()
	m.Message = d.String()
	m.Stack = d.String()
	return d.Err()
}

func cut(s string) string { return s[:min(len(s), maxStack)] }

// Refusal is the body of a REFUSED frame: the call certainly did not start.
type Refusal struct {
	// Code is a short stable name: "busy", "draining", "too_large", or one of the layer above.
	Code    string
	Message string
	// RetryAfter is the refusing side's advice; zero means none.
	RetryAfter time.Duration
}

// The codes with which a session itself refuses a call.
const (
	RefusedBusy     = "busy"
	RefusedDraining = "draining"
	RefusedTooLarge = "too_large"
)

var _ Appender = (*Refusal)(nil)

// Error returns code and message.
func (m *Refusal) Error() string { return "refused (" + m.Code + "): " + m.Message }

// Unwrap returns [ErrNotStarted].
func (m *Refusal) Unwrap() error { return ErrNotStarted }

// AppendTo appends the encoded message.
func (m *Refusal) AppendTo(b []byte) []byte {
	return AppendDuration(AppendString(AppendString(b, m.Code), cut(m.Message)), m.RetryAfter)
}

// Parse decodes body into m.
func (m *Refusal) Parse(body []byte) error {
	d := NewDecoder(body)
	m.Code = d.String()
	m.Message = d.String()
	m.RetryAfter = d.Duration()
	return d.Err()
}

// Greeting is the head of a HELLO frame.
type Greeting struct {
	// Least and Greatest are the protocol versions that the sender speaks.
	Least, Greatest uint32
	// Window is how many bytes of a stream the sender accepts before it has given further credit.
	Window uint32
	// MaxBody is the largest body that the sender accepts; zero means that it does not say.
	MaxBody uint64
	// Agent names the sender's software, such as "covey-sdk-go/1".
	Agent      string
	Attributes Attributes
}

// An instance that cannot receive descriptors says in its Greeting that it takes no lanes.
const (
	LanesAttribute = "lanes"
	NoLanes        = "0"
)

var _ Appender = (*Greeting)(nil)

// AppendTo appends the encoded message.
func (m *Greeting) AppendTo(b []byte) []byte {
	b = AppendUint(b, uint64(m.Least))
	b = AppendUint(b, uint64(m.Greatest))
	b = AppendUint(b, uint64(m.Window))
	b = AppendUint(b, m.MaxBody)
	b = AppendString(b, m.Agent)
	return AppendAttributes(b, m.Attributes)
}

// Parse decodes head into m.
func (m *Greeting) Parse(head []byte) error {
	d := NewDecoder(head)
	m.Least = d.uint32()
	m.Greatest = d.uint32()
	m.Window = d.uint32()
	m.MaxBody = d.Uint()
	m.Agent = d.String()
	m.Attributes = d.Attributes()
	return d.Err()
}

// Negotiate returns the greatest protocol version that both the sender and this package speak. Its error
// wraps [ErrProtocol].
func (m *Greeting) Negotiate() (uint32, error) {
	if m.Least > ProtocolVersion || m.Greatest < ProtocolVersion {
		return 0, fmt.Errorf("%w: %s speaks versions %d to %d, this side %d", ErrProtocol, m.Agent, m.Least, m.Greatest, ProtocolVersion)
	}
	return ProtocolVersion, nil
}

// HostRequest is the head of a HOSTCALL frame: a function asks its node for something. Who asks is known
// from the connection, never from the message.
type HostRequest struct {
	// RequestID is the invocation on whose behalf the call is made.
	RequestID string
	// Op is the operation, such as "invoke".
	Op string
	// Target is what the operation acts on, such as a function's name.
	Target      string
	ContentType string
	// Remaining is the time left of the caller's deadline; zero means none.
	Remaining  time.Duration
	Attributes Attributes
}

var _ Appender = (*HostRequest)(nil)

// AppendTo appends the encoded message.
func (m *HostRequest) AppendTo(b []byte) []byte {
	b = AppendString(b, m.RequestID)
	b = AppendString(b, m.Op)
	b = AppendString(b, m.Target)
	b = AppendString(b, m.ContentType)
	b = AppendDuration(b, m.Remaining)
	return AppendAttributes(b, m.Attributes)
}

// Parse decodes head into m.
func (m *HostRequest) Parse(head []byte) error {
	d := NewDecoder(head)
	m.RequestID = d.String()
	m.Op = d.String()
	m.Target = d.String()
	m.ContentType = d.String()
	m.Remaining = d.Duration()
	m.Attributes = d.Attributes()
	return d.Err()
}

// HostResult is the head of a HOSTREPLY frame.
type HostResult struct {
	ContentType string
	Attributes  Attributes
}

var _ Appender = (*HostResult)(nil)

// AppendTo appends the encoded message.
func (m *HostResult) AppendTo(b []byte) []byte {
	return AppendAttributes(AppendString(b, m.ContentType), m.Attributes)
}

// Parse decodes head into m.
func (m *HostResult) Parse(head []byte) error {
	d := NewDecoder(head)
	m.ContentType = d.String()
	m.Attributes = d.Attributes()
	return d.Err()
}

func (d *Decoder) uint32() uint32 { return uint32(min(d.Uint(), math.MaxUint32)) }
