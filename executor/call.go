package executor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// cancelGrace is how long a function may go on with a call whose caller is gone
// before its instance is ended.
const cancelGrace = time.Second

// slot is room for one call in an instance. One call at a time uses it, so its
// parts are reused without a lock.
type slot struct {
	in *instance
	// call is filled for each call, so that a warm call allocates none.
	call  plugins.Call
	limit *limit
	// gate is what the call has to leave at its end, nil for most.
	gate *gate
}

// limit ends the instance when a call takes too long. It is reused as long as it
// has not fired; whoever wins the race between firing and stopping decides.
type limit struct {
	timer *time.Timer
	fired atomic.Bool
}

// arm starts the slot's timer.
func (s *slot) arm(d time.Duration, why string) {
	if s.limit != nil {
		s.limit.timer.Reset(d)
		return
	}
	l, in := &limit{}, s.in
	l.timer = time.AfterFunc(d, func() {
		l.fired.Store(true)
		in.end(endNow, why)
	})
	s.limit = l
}

// disarm stops the slot's timer and reports whether it did so in time.
func (s *slot) disarm() bool {
	l := s.limit
	if l.timer.Stop() {
		return true
	}
	s.limit = nil
	return false
}

const reasonTimeout = "call exceeded its time limit"

// run hands the call to the slot's instance and waits for the answer. It gives
// the slot back in the end, which for a stream is when its reader is done.
func (s *slot) run(ctx context.Context, g grant, req *Request) (*Response, error) {
	in, began := s.in, time.Now()
	if err := ctx.Err(); err != nil {
		in.p.release(s, began, 0)
		return nil, fmt.Errorf("call %s: %w: %w", in.p.key, err, plugins.ErrNotStarted)
	}
	remaining := in.spec.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		remaining = min(remaining, deadline.Sub(began))
	}
	if !req.Deadline.IsZero() {
		remaining = min(remaining, req.Deadline.Sub(began))
	}
	if remaining <= 0 {
		in.p.release(s, began, 0)
		return nil, fmt.Errorf("call %s: %w: %w", in.p.key, context.DeadlineExceeded, plugins.ErrNotStarted)
	}
	// Armed before the call leaves, so that there is no moment without a limit.
	s.fill(req, remaining)
	in.log.begin(&req.ID)
	s.arm(remaining, reasonTimeout)
	reply, err := in.plane.Invoke(ctx, &s.call)
	took := time.Since(began)

	resp := &Response{Instance: in.id, Cold: g.cold, reply: reply}
	resp.Steps = in.steps(g, took)
	resp.Usage = Usage{
		Key: in.p.key, RequestID: req.ID, Cold: g.cold, Billed: ceilMillisecond(took),
		MemoryLimit: in.spec.Memory, BytesIn: int64(len(req.Body)),
	}
	if g.first {
		resp.Usage.Init = in.readyAt.Sub(in.asked)
	}
	if err != nil {
		err = s.fail(ctx, err, took)
		return s.failed(resp, err)
	}
	resp.ContentType, resp.Status, resp.Attributes = reply.ContentType, int(reply.Status), reply.Attributes
	resp.use(in, g, reply.Stats, took)
	if reply.Stream != nil {
		resp.Stream = &stream{s: s, inner: reply.Stream, ctx: ctx, began: began, usage: resp.Usage}
		return resp, nil
	}
	if !s.disarm() {
		// The answer came, but the limit had fired: the instance is being ended,
		// and telling success would leave its end unexplained.
		resp.Release()
		<-in.dead
		in.p.release(s, time.Now(), 0)
		return s.failed(resp, ErrTimeout)
	}
	in.p.release(s, began.Add(took), max(took, 1))
	resp.Body, resp.Usage.BytesOut = reply.Body, int64(len(reply.Body))
	in.p.e.count(in.p, &resp.Usage, took, nil)
	return resp, nil
}

// fill writes the call's head. The struct is the slot's: the data plane does not
// keep it after Invoke.
func (s *slot) fill(req *Request, remaining time.Duration) {
	key := s.in.p.key
	s.call = plugins.Call{
		Invoke: frame.Invoke{
			RequestID: req.ID, Attempt: max(req.Attempt, 1), Remaining: remaining,
			App: key.App, Function: key.Function, Version: key.Version, Node: s.in.p.e.cfg.Node,
			ContentType: req.ContentType, Trace: req.Trace, Depth: req.Depth, Attributes: req.Attributes,
		},
		Body: req.Body,
	}
}

// steps splits the time before the answer.
func (in *instance) steps(g grant, took time.Duration) Steps {
	st := Steps{Queue: g.waited, Run: took}
	if !g.cold {
		return st
	}
	// The wait may be longer than the start, when that was decided late or had to wait
	// for its turn, or shorter, when it was decided for somebody else.
	part := func(d time.Duration) time.Duration {
		d = min(max(d, 0), st.Queue)
		st.Queue -= d
		return d
	}
	st.Handshake = part(in.readyAt.Sub(in.began) - in.fetch - in.spawn)
	st.Spawn = part(in.spawn)
	st.Fetch = part(in.fetch)
	return st
}

// use adds what the instance says about itself.
func (r *Response) use(in *instance, g grant, stats plugins.Stats, took time.Duration) {
	in.observePeak(int64(min(stats.PeakMemory, 1<<62)))
	r.Usage.MemoryPeak = in.peak.Load()
	r.Usage.CPU = min(max(stats.CPU, 0), took*time.Duration(runtime.NumCPU()))
	if r.Cold && stats.Init > 0 {
		r.Steps.Init = min(stats.Init, r.Steps.Handshake)
		r.Steps.Handshake -= r.Steps.Init
	}
	if g.first {
		in.p.e.m.started(in.spec.Runtime, &r.Steps)
	}
}

// failed finishes the response of a call that went wrong.
func (s *slot) failed(resp *Response, err error) (*Response, error) {
	resp.Body, resp.Stream, resp.reply = nil, nil, nil
	if errors.Is(err, plugins.ErrNotStarted) {
		return nil, err
	}
	resp.Usage.Failed = true
	resp.Usage.MemoryPeak = s.in.peak.Load()
	s.in.p.e.count(s.in.p, &resp.Usage, resp.Steps.Run, err)
	return resp, err
}

// fail sorts out a call that ended in an error, frees its slot and returns what
// the caller is told.
func (s *slot) fail(ctx context.Context, err error, took time.Duration) error {
	in, p := s.in, s.in.p
	if _, ok := errors.AsType[*plugins.FunctionError](err); ok && s.disarm() {
		p.release(s, time.Now(), max(took, 1)) // a function that says no works
		return err
	}
	started := !errors.Is(err, plugins.ErrNotStarted)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && started:
		in.end(endNow, reasonTimeout)
		return s.lost(ErrTimeout)
	case ctx.Err() != nil:
		s.abandon(err)
		if !started {
			return fmt.Errorf("call %s: %w: %w", p.key, ctx.Err(), plugins.ErrNotStarted)
		}
		return fmt.Errorf("call %s: %w", p.key, ctx.Err())
	case s.limit == nil || s.limit.fired.Load():
		return s.lost(ErrTimeout)
	}
	// The instance is gone or going. How it ended is what the caller has to know,
	// and only the supervisor does.
	if _, ok := errors.AsType[*plugins.ExitError](err); ok || errors.Is(err, plugins.ErrClosed) {
		exit := s.lost(nil)
		if !started {
			return fmt.Errorf("%w: %w", exit, plugins.ErrNotStarted)
		}
		return exit
	}
	// The instance, or the data plane before it, refused this call alone.
	s.disarm()
	p.release(s, time.Now(), 0)
	return fmt.Errorf("call %s: %w", p.key, err)
}

// lost waits for the end of an instance that took its call with it, and returns
// err, or an ExitError that says how it ended.
func (s *slot) lost(err error) error {
	in := s.in
	<-in.dead // bounded: the supervisor ends the process by force
	if s.limit != nil {
		s.disarm()
	}
	in.p.release(s, time.Now(), 0)
	if err != nil {
		return err
	}
	return &plugins.ExitError{Cause: in.exit}
}

// settler is an error of the data plane that knows when the instance is done
// with a call that its caller has left.
type settler interface {
	error
	Settled() <-chan struct{}
}

// abandon keeps the slot of a call whose caller is gone until the function is
// done with it: the instance may still be working, and the next call must not
// run beside it. A function that does not stop is ended.
func (s *slot) abandon(err error) {
	in, p := s.in, s.in.p
	if s.limit != nil {
		s.disarm()
	}
	if errors.Is(err, plugins.ErrNotStarted) {
		p.release(s, time.Now(), 0)
		return
	}
	var settled <-chan struct{}
	if c, ok := errors.AsType[settler](err); ok {
		settled = c.Settled()
	}
	wait := func() {
		timer := time.NewTimer(cancelGrace)
		defer timer.Stop()
		select {
		case <-settled:
		case <-in.dead:
		case <-timer.C:
			in.end(endNow, "call went on after its caller was gone")
			<-in.dead
		}
		p.release(s, time.Now(), 0)
	}
	if !p.e.spawn(wait) {
		p.release(s, time.Now(), 0) // closing: the instance is being ended
	}
}

// ceilMillisecond rounds up, as calls are billed.
func ceilMillisecond(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
