package executor

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

// Key names one version of one function.
type Key struct {
	App, Function string
	Version       uint64
}

// String returns the key as "app/function:version".
func (k Key) String() string {
	return k.App + "/" + k.Function + ":" + strconv.FormatUint(k.Version, 10)
}

// Spec says how a version is run on this node. Everything but Queue, Max and Min
// is fixed for a version; those are this node's shares and may change with every
// call. A Spec is not changed once it was given to the executor.
type Spec struct {
	Key

	// Runtime is how the code is hosted: "go", or one of Config.Runtimes.
	Runtime string
	// Handler names the entry point within the code, for runtimes that need it.
	Handler string
	// Digest names the code for Config.Code.
	Digest string

	// Memory is each instance's limit in bytes, and what it takes of the node's
	// budget while it lives.
	Memory int64
	// Timeout bounds one call from its start in an instance to its last byte.
	Timeout time.Duration
	// IdleTTL is how long an instance without work is kept.
	IdleTTL time.Duration
	// StartTimeout bounds the time from exec to READY, the function's own
	// initialisation included; 0 means Config.StartTimeout.
	StartTimeout time.Duration

	// Concurrency is how many calls an instance runs at once; 0 means 1.
	Concurrency int
	// Queue is how many calls may wait here while nothing is free.
	Queue int
	// Max is how many instances this node may have; 0 leaves it to memory.
	Max int
	// Min is how many instances are kept warm here, idle or not.
	Min int

	// Reserved bounds the calls of all versions of the function by Config.Share.
	Reserved bool

	// Env is the function's environment.
	Env map[string]string
	// MinLevel refuses to start instances in a weaker sandbox.
	MinLevel sandbox.Level
}

// Validate reports everything that is wrong with the spec at once.
func (s *Spec) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.App == "" || s.Function == "" || s.Version == 0 {
		bad("incomplete key %s", s.Key)
	}
	if s.Memory <= 0 {
		bad("Memory is %d, want bytes above 0", s.Memory)
	}
	if s.Timeout <= 0 || s.IdleTTL <= 0 {
		bad("Timeout %v and IdleTTL %v must be above 0", s.Timeout, s.IdleTTL)
	}
	if s.StartTimeout < 0 || s.Concurrency < 0 || s.Queue < 0 || s.Max < 0 || s.Min < 0 {
		bad("StartTimeout, Concurrency, Queue, Max and Min must not be negative")
	}
	return errors.Join(errs...)
}

// concurrency is how many calls an instance runs at once.
func (s *Spec) concurrency() int { return max(s.Concurrency, 1) }

// Request is one call. The executor does not change it.
type Request struct {
	// ID is the request id; log lines are filed under it.
	ID string
	// Attempt counts the sendings of this request, from 1.
	Attempt uint32
	// Body is the event. The caller keeps it unchanged until Invoke returns.
	Body        []byte
	ContentType string
	// Trace is the W3C traceparent, or empty.
	Trace string
	// Depth counts the calls that led to this one through host calls.
	Depth uint8
	// Attributes are further facts for the function. May be nil.
	Attributes plugins.Attributes
	// Deadline bounds wait and run like the context's; zero means none. The
	// executor has timers for both anyway, and a context with a deadline costs a
	// warm call more than the rest of the executor.
	Deadline time.Time
	// Wait lets the call wait when this node has no memory for an instance, until it
	// is the version's turn; otherwise that is ErrNoCapacity at once. It is for calls
	// that no other node has room for.
	Wait bool
}

// Response is how a call went. Invoke returns one for every call that reached an
// instance, beside an error too: what the call cost is then known all the same.
// The caller must call Release when it is done with Body or Stream.
type Response struct {
	// Body is the answer when Stream is nil. It is valid until Release.
	Body []byte
	// Stream is the answer of a function that streams. The slot stays taken, and
	// the timeout runs, until it is read to its end or closed.
	Stream      io.ReadCloser
	ContentType string
	// Status is the HTTP status that the function asked for, 0 for none.
	Status int
	// Attributes are what the function adds to the answer. Often nil.
	Attributes plugins.Attributes

	// Instance is the id of the instance that ran the call.
	Instance string
	// Cold tells that the call waited for an instance to start.
	Cold bool
	// Steps is where the time went. Run ends with the first byte of a stream.
	Steps Steps
	// Usage is what the call consumed; of a stream, up to its first byte. The
	// final figures go to Config.Meter.
	Usage Usage

	reply *plugins.Reply // owns Body
}

// Release gives the memory of Body back and closes Stream. It may be called more
// than once, and on a nil Response.
func (r *Response) Release() {
	if r == nil || r.reply == nil {
		return
	}
	if r.Stream != nil {
		_ = r.Stream.Close() // an answer that nobody wants has nobody to tell
	}
	r.reply.Release()
	r.Body, r.reply = nil, nil
}

// Steps is the time that the parts of a call took. All but Queue and Run are zero for
// a call that was not cold, and count only as far as the call waited for them: an
// instance may have been started for somebody else.
type Steps struct {
	// Queue is the wait for a free slot, without the parts below.
	Queue time.Duration
	// Fetch is the time to have the code here, unpacked and open.
	Fetch time.Duration
	// Spawn is the time to have a process.
	Spawn time.Duration
	// Handshake is the time until the process has begun to initialise, and from then
	// until it is known to be ready.
	Handshake time.Duration
	// Init is the function's own initialisation.
	Init time.Duration
	// Run is from handing the call to the instance to its answer.
	Run time.Duration
}

// Usage is what one call consumed. Config.Meter gets one for every call that
// reached an instance.
type Usage struct {
	Key       Key
	RequestID string
	// Failed tells that the caller got an error, the function's or ours.
	Failed bool
	// Cold tells that the call waited for a start, and Init how long that took;
	// of several calls that waited for the same one, one is charged.
	Cold bool
	Init time.Duration
	// Billed is the run time rounded up to a millisecond.
	Billed time.Duration
	// CPU is the processor time of the instance during the call, as the
	// instance reports it and never more than Billed on every processor.
	CPU time.Duration
	// MemoryLimit and MemoryPeak are bytes. The peak is the instance's, over its
	// life so far.
	MemoryLimit, MemoryPeak int64
	// BytesIn and BytesOut are the sizes of the event and of the answer.
	BytesIn, BytesOut int64
}

// Load is how busy a version is on this node at one moment.
type Load struct {
	// Instances can take calls, Starting will be able to soon.
	Instances, Starting int
	// Free are slots without a call, InFlight calls in a slot, Queued calls
	// waiting for one.
	Free, InFlight, Queued int
	// Max and Queue are the limits of the newest spec seen.
	Max, Queue int
	// Entered are the calls of all versions of the function that its reserved
	// concurrency has let in, Waiting those that wait for that. Both are 0 for a
	// function that reserves nothing.
	Entered, Waiting int
}

// ScaleInput is what is known when waiting calls may justify one more instance.
type ScaleInput struct {
	Key Key
	Load
	Concurrency int
	// Run is the mean time of a call, Cold of a start; 0 while unknown.
	Run, Cold time.Duration
	// Waited is how long the first call of the queue has been waiting.
	Waited time.Duration
}
