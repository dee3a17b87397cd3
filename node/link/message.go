package link

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

// Call is one invocation on its way to another node.
type Call struct {
	// Invoke says what to run. Remaining is the time that the function may take; zero
	// takes the time that is left in the context. Give the context or the Deadline
	// some more than that, or the other side's own "timed out" has no time to arrive.
	frame.Invoke

	// Hops is how often the call was sent to another node, this time included.
	Hops uint8
	// Deadline is when the caller stops waiting; zero leaves it to the context, which
	// costs more. It does not travel. In a handler it is when Remaining is over.
	Deadline time.Time
	// WantLogs asks for Reply.LogTail.
	WantLogs bool
	// Body is the event. It must not change before Call returns.
	Body []byte
}

// Step is one part of the time spent on the node that answered.
type Step struct {
	Name string
	Took time.Duration
}

// Usage is what the call is charged for there.
type Usage struct {
	Billed, Init, CPU       time.Duration
	MemoryLimit, MemoryPeak int64
	BytesIn, BytesOut       int64
}

// Reply is the answer of another node. Release must be called once; nothing of
// the Reply may be used after that but what was copied out, its strings
// included.
type Reply struct {
	// Result is the function's part: content type, status, attributes, stats.
	frame.Result

	// Body is the output unless Stream is set. It is valid until Release.
	Body []byte
	// Stream is the output of a function that streams. It must be read to its end or
	// closed. A read error is mapped like the error of Call.
	Stream io.ReadCloser

	// Cold says that an instance was started for the call.
	Cold bool
	// Load is the answering node's own for that version, nil if it did not say.
	Load *scheduler.Load
	// Steps are in order.
	Steps []Step
	Usage Usage
	// LogTail is the end of what the call logged, if asked for.
	LogTail []byte

	// load is what Load points to when it came over the wire.
	load    scheduler.Load
	release func(*Reply)
	answer  frame.Answer
	lane    *frame.Session
	from    *peer
}

// OnRelease makes Release call f. It is for handlers whose Body is pooled.
func (r *Reply) OnRelease(f func(*Reply)) { r.release = f }

// Release gives the reply's memory back. It must be called at most once, after
// the Stream was read or closed. A nil Reply is fine.
func (r *Reply) Release() {
	if r != nil && r.release != nil {
		r.release(r)
	}
}

const (
	callWantsLogs = 1 << iota
)

var _ frame.Appender = (*Call)(nil)

// AppendTo appends the head of the call. The body travels beside it.
func (c *Call) AppendTo(b []byte) []byte {
	b = frame.AppendUint(b, uint64(c.Hops))
	var flags uint64
	if c.WantLogs {
		flags |= callWantsLogs
	}
	b = frame.AppendUint(b, flags)
	return c.Invoke.AppendTo(b)
}

// parse is the inverse of AppendTo.
func (c *Call) parse(head []byte) error {
	d := frame.NewDecoder(head)
	c.Hops = uint8(min(d.Uint(), 255))
	c.WantLogs = d.Uint()&callWantsLogs != 0
	return c.ParseFrom(&d)
}

const (
	replyCold = 1 << iota
	replyHasLoad
	loadFull
)

// report is what a node says beside the function's answer. On the wire it has
// its length in front, so that it may grow although the result follows it.
type report struct {
	reply   *Reply // never nil
	result  bool   // the function's Result follows
	details frame.Attributes
}

var _ frame.Appender = (*report)(nil)

// AppendTo appends the head of an answer.
func (m *report) AppendTo(b []byte) []byte {
	const room = 3 // a varint of at most 2 MiB; heads are under 64 KiB
	start := len(b)
	b = append(b, make([]byte, room)...)
	b = m.appendFields(b)
	n := uint64(len(b) - start - room)
	b[start], b[start+1], b[start+2] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)
	if m.result {
		b = m.reply.Result.AppendTo(b)
	}
	return b
}

// appendFields writes a fixed order; new fields go to the end. Without a load
// zeros keep the place, because an order that varies is one that breaks.
func (m *report) appendFields(b []byte) []byte {
	r := m.reply
	var flags uint64
	load := r.Load
	if r.Cold {
		flags |= replyCold
	}
	if load == nil {
		load = new(scheduler.Load)
	} else {
		flags |= replyHasLoad
	}
	if load.Full {
		flags |= loadFull
	}
	b = frame.AppendUint(b, flags)
	for _, n := range [...]int{load.InFlight, load.Queued, load.Free, load.Instances, load.Starting, load.Idle} {
		b = frame.AppendUint(b, uint64(max(n, 0)))
	}
	b = frame.AppendUint(b, uint64(len(r.Steps)))
	for i := range r.Steps {
		b = frame.AppendDuration(frame.AppendString(b, r.Steps[i].Name), r.Steps[i].Took)
	}
	u := &r.Usage
	b = frame.AppendDuration(frame.AppendDuration(frame.AppendDuration(b, u.Billed), u.Init), u.CPU)
	for _, n := range [...]int64{u.MemoryLimit, u.MemoryPeak, u.BytesIn, u.BytesOut} {
		b = frame.AppendUint(b, uint64(max(n, 0)))
	}
	tail := r.LogTail[max(0, len(r.LogTail)-logTailMax):]
	b = append(binary.AppendUvarint(b, uint64(len(tail))), tail...)
	return frame.AppendAttributes(b, m.details)
}

// logTailMax keeps an answer's head within a frame's.
const logTailMax = 8 << 10

// stepMax bounds the steps that a reader accepts.
const stepMax = 32

// parse is the inverse of AppendTo. The strings of the reply do not share memory
// with head.
func (m *report) parse(head []byte) error {
	n, width := binary.Uvarint(head)
	switch {
	case len(head) == 0:
		return nil // the session itself answered
	case width <= 0 || n > uint64(len(head)-width):
		return fmt.Errorf("%w: head of an answer is cut off", frame.ErrProtocol)
	}
	fields := frame.NewDecoder(head[width : width+int(n)])
	m.parseFields(&fields)
	if err := fields.Err(); err != nil || !m.result {
		return err
	}
	return m.reply.Parse(head[width+int(n):])
}

// parseFields reads that order. What an older node did not send reads as zero.
func (m *report) parseFields(d *frame.Decoder) {
	r := m.reply
	flags := d.Uint()
	r.Cold = flags&replyCold != 0
	r.load = scheduler.Load{
		InFlight: count(d), Queued: count(d), Free: count(d), Instances: count(d), Starting: count(d), Idle: count(d),
		Full: flags&loadFull != 0,
	}
	r.Load = nil
	if flags&replyHasLoad != 0 {
		r.Load = &r.load
	}
	steps := min(d.Uint(), stepMax)
	r.Steps = r.Steps[:0]
	for range steps {
		r.Steps = append(r.Steps, Step{Name: d.String(), Took: d.Duration()})
	}
	r.Usage = Usage{
		Billed: d.Duration(), Init: d.Duration(), CPU: d.Duration(),
		MemoryLimit: size(d), MemoryPeak: size(d), BytesIn: size(d), BytesOut: size(d),
	}
	r.LogTail = append(r.LogTail[:0], d.String()...)
	m.details = d.Attributes()
}

// count reads a number that fits every int.
func count(d *frame.Decoder) int { return int(min(d.Uint(), 1<<31-1)) }

// size reads a number that fits an int64.
func size(d *frame.Decoder) int64 { return int64(min(d.Uint(), 1<<63-1)) }
