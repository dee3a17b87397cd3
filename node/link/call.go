package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// call sends one call and reads the answer.
func (p *peer) call(ctx context.Context, call *Call) (*Reply, error) {
	c, err := p.session(ctx, call.Deadline)
	if err != nil {
		return nil, err
	}
	s := c.Session
	var lane *frame.Session
	if len(call.Body) >= p.link.cfg.LargeBody {
		if lane, err = p.lane(ctx, call.Deadline); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if lane != nil {
			s = lane
		}
	}
	if call.Remaining == 0 {
		if deadline, ok := ctx.Deadline(); ok {
			call.Remaining = max(time.Until(deadline), time.Microsecond)
			defer func() { call.Remaining = 0 }()
		}
	}
	answer, err := s.CallUntil(ctx, call.Deadline, frame.InvokeCall, call, call.Body)
	if err != nil {
		p.putLane(lane)
		return nil, transportError(err)
	}
	return p.reply(answer, lane)
}

// lane returns a connection for one large body, or nil when all are busy: then
// the body shares one with the small calls.
func (p *peer) lane(ctx context.Context, deadline time.Time) (*frame.Session, error) {
	ctx, cancel := within(ctx, deadline)
	defer cancel()
	p.mu.Lock()
	lanes := p.lanes
	p.mu.Unlock()
	return lanes.Get(ctx)
}

// within bounds ctx by a deadline that may be zero.
func within(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline)
}

// putLane gives a lane back. Nil is fine: the call had none.
func (p *peer) putLane(lane *frame.Session) {
	if lane == nil {
		return
	}
	p.mu.Lock()
	lanes := p.lanes
	p.mu.Unlock()
	lanes.Put(lane) // one that belongs to closed lanes has ended, and is dropped
}

// reply turns an answer into a reply and its error.
func (p *peer) reply(answer frame.Answer, lane *frame.Session) (*Reply, error) {
	r, ok := p.link.replies.Get().(*Reply)
	if !ok {
		r = new(Reply)
	}
	r.answer, r.lane, r.from, r.release = answer, lane, p, releaseReply
	report := report{reply: r, result: answer.Type == frame.ResultReply}
	if err := report.parse(answer.Head); err != nil {
		r.Release()
		return nil, fmt.Errorf("read answer: %w", err)
	}
	switch answer.Type {
	case frame.ResultReply:
		r.Body = answer.Body
		if answer.Stream != nil {
			r.Stream = &stream{inner: answer.Stream}
		}
		return r, nil
	case frame.RefusedReply:
		var refusal frame.Refusal
		if err := refusal.Parse(answer.Body); err != nil {
			// REFUSED alone says that nothing started.
			return r, &RefusedError{Code: codeNotStarted, Message: err.Error()}
		}
		return r, decodeRefusal(&refusal, report.details)
	case frame.ErrorReply:
		var failure frame.Failure
		if err := failure.Parse(answer.Body); err != nil {
			return r, fmt.Errorf("read answer: %w", err)
		}
		return r, decodeFailure(&failure)
	}
	r.Release()
	return nil, fmt.Errorf("%w: a call was answered by %s", frame.ErrProtocol, answer.Type)
}

// releaseReply takes a reply back into its link's pool.
func releaseReply(r *Reply) {
	p := r.from
	if r.Stream != nil {
		_ = r.Stream.Close()
		p.inFlight.Add(-1)
	}
	r.answer.Release()
	p.putLane(r.lane)
	*r = Reply{Steps: r.Steps[:0], LogTail: r.LogTail[:0]}
	p.link.replies.Put(r)
}

// stream maps the errors of a streamed body.
type stream struct{ inner io.ReadCloser }

// Read maps how the other side ended the stream, or how the link did. Either way
// the call has started.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.inner.Read(b)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if f, ok := errors.AsType[*frame.Failure](err); ok {
		return n, decodeFailure(f)
	}
	return n, transportError(err)
}

// Close cancels the call over there unless it has ended.
func (s *stream) Close() error { return s.inner.Close() }
