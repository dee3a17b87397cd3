package covey

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// call is one invocation, and the context that its handler gets.
type call struct {
	context.Context
	runtime    *runtime
	invocation Invocation
	payload    []byte
	in         *frame.Incoming
	result     frame.Result
	stream     *frame.StreamWriter // set by the first Write of a streamed output
	collected  *bytes.Buffer       // takes a streamed output where there is no frame to stream it in
	began      time.Time
	usedCPU    time.Duration // by other processes, for this call
	usedPeak   uint64
}

// Value finds the call itself, so that it costs no further context.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

type callKey struct{}

// fromContext returns the call that ctx belongs to, or nil.
func fromContext(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// handle serves one INVOKE frame.
func (r *runtime) handle(in *frame.Incoming) {
	defer r.leave()
	c := &call{runtime: r, in: in, began: time.Now()}
	var head frame.Invoke
	if err := head.Parse(in.Head()); err != nil || in.Type() != frame.InvokeCall {
		_ = in.Fail(nil, &frame.Failure{Kind: frame.KindPlatform, Type: "BadCall", Message: "the call cannot be read"})
		return
	}
	if head.Remaining > 0 {
		in.SetTimeout(head.Remaining)
		c.invocation.Deadline = c.began.Add(head.Remaining)
	}
	c.Context = in.Context()
	c.invocation.fill(&head)
	// The handler may keep its payload, so it cannot be a reused buffer.
	c.payload = in.TakeBody()
	output, err := c.invoke()
	c.finish(output, err)
}

// handlePlain serves a call that came over net/rpc, without the data plane and what it carries.
func (r *runtime) handlePlain(payload []byte) ([]byte, error) {
	c := &call{Context: context.Background(), runtime: r, payload: payload, collected: new(bytes.Buffer)}
	output, err := c.invoke()
	if c.collected.Len() > 0 {
		output = c.collected.Bytes()
	}
	return output, err
}

// invoke runs the handler and turns a panic into an error.
func (c *call) invoke() (output []byte, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: string(debug.Stack())}
			return
		}
		// runtime.Goexit ends this goroutine whatever we do; the caller gets an answer first.
		c.finish(nil, &panicError{value: "the handler ended its goroutine"})
	}()
	output, err = c.runtime.run(c)
	returned = true
	return output, err
}

// finish sends the answer. An answer that cannot be sent means that the node is gone, and the process ends.
func (c *call) finish(output []byte, err error) {
	switch {
	case c.in == nil: // It came over net/rpc.
	case err != nil && c.stream != nil:
		_ = c.stream.Fail(failureOf(err))
	case err != nil:
		_ = c.in.Fail(nil, failureOf(err))
	case c.stream != nil:
		_ = c.stream.Close()
	default:
		c.answer(output)
	}
}

func (c *call) answer(output []byte) {
	if most := c.runtime.maxOutput.Load(); most > 0 && int64(len(output)) > most {
		_ = c.in.Fail(nil, &frame.Failure{
			Kind: frame.KindFunction, Type: "ResponseTooLarge",
			Message: fmt.Sprintf("output of %d bytes, %d allowed; stream it instead", len(output), most),
		})
		return
	}
	c.result.Stats = c.runtime.stats(c.began)
	c.result.Stats.CPU += c.usedCPU
	c.result.Stats.PeakMemory = max(c.result.Stats.PeakMemory, c.usedPeak)
	_ = c.in.Answer(frame.ResultReply, &c.result, output)
}

// stats measures a call that began then. The processor time of calls that ran at once is reported by the
// first to end, so that the sum over all calls is what the process used.
func (r *runtime) stats(began time.Time) frame.Stats {
	s := frame.Stats{Run: time.Since(began)}
	if r.initTime.Load() != 0 {
		s.Init = time.Duration(r.initTime.Swap(0))
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err == nil {
		now := usage.Utime.Nano() + usage.Stime.Nano()
		s.CPU = time.Duration(max(now-r.cpu.Swap(now), 0))
		s.PeakMemory = peakMemory(&usage)
	}
	return s
}

// streamWriter is the writer of a streamed output.
type streamWriter call

var _ io.Writer = (*streamWriter)(nil)

// Write sends p at once. The first Write fixes content type, status and attributes.
func (w *streamWriter) Write(p []byte) (int, error) {
	c := (*call)(w)
	if c.collected != nil {
		return c.collected.Write(p)
	}
	if c.stream == nil {
		stream, err := c.in.Stream(frame.ResultReply, &c.result)
		if err != nil {
			return 0, fmt.Errorf("write output: %w", err)
		}
		c.stream = stream
	}
	return c.stream.Write(p)
}
