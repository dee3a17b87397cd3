package frame

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Answer is the end of a call. Head and Body are valid until Release.
type Answer struct {
	// Type is ResultReply, ErrorReply, RefusedReply or HostReply.
	Type Type
	// Head is the message head, to be parsed by whoever knows it.
	Head []byte
	// Body is the output; of an ERROR it is a [Failure] and of a REFUSED a [Refusal].
	Body []byte
	// Stream is set instead of Body when the output is streamed. It must be read to its end or closed. A
	// *Failure from Read is how the other side ended it.
	Stream io.ReadCloser

	head, body *Buffer
}

// Release returns the buffers. It must be called once for each Answer, after the Stream was closed.
func (a *Answer) Release() {
	a.head.Release()
	a.body.Release()
	*a = Answer{}
}

// call is one call of this side, from its frame to its answer.
type call struct {
	id uint64
	// woken gets one value when answer or err is set. It has room for it, so that the reader never waits.
	woken  chan struct{}
	answer Answer
	err    error
	body   assembly
	stream *streamReader // set while the answer streams
	timer  *time.Timer   // made by the first deadline
}

// until returns a channel for the end of the wait, which stop must follow; nil without a deadline.
func (c *call) until(deadline time.Time) <-chan time.Time {
	if deadline.IsZero() {
		return nil
	}
	if left := time.Until(deadline); c.timer == nil {
		c.timer = time.NewTimer(left)
	} else {
		c.timer.Reset(left)
	}
	return c.timer.C
}

func (c *call) stop() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// fail tells the caller that the session ended.
func (c *call) fail(err error) {
	if c.stream != nil {
		c.stream.end(err)
		return
	}
	c.err = err
	c.woken <- struct{}{}
}

func (p *Pool) getCall() *call {
	if c, ok := p.calls.Get().(*call); ok {
		return c
	}
	return &call{woken: make(chan struct{}, 1)}
}

// putCall keeps c for reuse. Its woken channel must be empty and nobody else may know it.
func (p *Pool) putCall(c *call) {
	c.answer, c.err, c.body, c.stream = Answer{}, nil, assembly{}, nil
	p.calls.Put(c)
}

// Call sends one call (InvokeCall or HostCallRequest) and waits for its answer. body must not change before
// Call returns. When ctx ends, the other side is told to cancel and the error wraps ctx's; a stream is cut
// off by ctx until it is closed. Errors of the transport wrap [ErrClosed], and [ErrNotStarted] too when the
// call certainly did not start. ERROR and REFUSED are answers, not errors.
func (s *Session) Call(ctx context.Context, t Type, head Appender, body []byte) (Answer, error) {
	return s.CallUntil(ctx, time.Time{}, t, head, body)
}

// CallUntil is [Session.Call] with a deadline, unless that is zero. It costs less than a context with one.
func (s *Session) CallUntil(ctx context.Context, deadline time.Time, t Type, head Appender, body []byte) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, notStarted(err)
	}
	if len(body) > s.cfg.MaxBody {
		return Answer{}, notStarted(fmt.Errorf("%w: body of %d bytes, %d allowed", ErrTooLarge, len(body), s.cfg.MaxBody))
	}
	c, err := s.register()
	if err != nil {
		return Answer{}, notStarted(err)
	}
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	end, err := s.sendCall(ctx, c, t, head, body)
	if err != nil && (tooLarge(err) || !s.w.Sent(end)) && s.unregister(c) {
		s.cfg.Pool.putCall(c)
		return Answer{}, notStarted(err)
	}
	if cause := c.wait(ctx, deadline); cause != nil {
		if settled := s.leave(c.id); settled != nil {
			// c is left to the garbage collector: the reader may be filling its body.
			_, _ = s.w.Message(Header{Type: Cancel, ID: c.id}, nil, nil)
			return Answer{}, &CanceledError{Cause: cause, settled: settled}
		}
		// The answer is already being handed over.
		<-c.woken
	}
	if c.err != nil {
		// The reader may still be filling the body, so c is not used again.
		err := s.classify(c.err, end)
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return Answer{}, err
	}
	answer := c.answer
	if c.stream != nil {
		c.stream.watch(ctx, deadline)
		return answer, nil
	}
	s.cfg.Pool.putCall(c)
	return answer, nil
}

// wait returns nil when the answer is there, or why nobody waits for it any longer.
func (c *call) wait(ctx context.Context, deadline time.Time) error {
	defer c.stop()
	select {
	case <-c.woken:
		return nil
	case <-c.until(deadline):
		return context.DeadlineExceeded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sendCall writes the call's frames.
func (s *Session) sendCall(ctx context.Context, c *call, t Type, head Appender, body []byte) (uint64, error) {
	if s.cfg.Lane && len(body) >= directBody && ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer func() {
			if !stop() {
				// It is about to close the lane, which nobody may take for a good one meanwhile.
				_ = s.Close()
			}
		}()
	}
	return s.w.Message(Header{Type: t, ID: c.id}, head, body)
}

func (s *Session) register() (*call, error) {
	c := s.cfg.Pool.getCall()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, s.err
	case s.writeErr != nil:
		return nil, s.writeErr
	}
	s.lastID++
	c.id = s.lastID
	s.calls[c.id] = c
	return c, nil
}

// unregister forgets the call and reports whether this caller was the one to do it.
func (s *Session) unregister(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[c.id] != c {
		return false
	}
	delete(s.calls, c.id)
	return true
}

// classify adds ErrNotStarted to err if the call's last byte did not leave.
func (s *Session) classify(err error, end uint64) error {
	if !s.w.Sent(end) {
		return notStarted(err)
	}
	return fmt.Errorf("wait for answer: %w", err)
}

// notStarted marks err as one after which the call certainly did not start.
func notStarted(err error) error { return fmt.Errorf("%w: %w", ErrNotStarted, err) }

// readAnswer takes the first frame of an answer, which is the only one unless the body is large or streamed.
func (s *Session) readAnswer(h Header) error {
	if h.Flags&(FlagMore|FlagStream) != 0 {
		return s.readLongAnswer(h)
	}
	buf := s.cfg.Pool.Get(int(h.Length))
	if err := s.r.Payload(buf.Bytes()); err != nil {
		return err
	}
	s.mu.Lock()
	c := s.calls[h.ID]
	if c == nil {
		// The caller has given up, and this was the end of its call.
		s.settleLocked(h.ID)
		s.mu.Unlock()
		buf.Release()
		return nil
	}
	delete(s.calls, h.ID)
	s.mu.Unlock()
	payload := buf.Bytes()
	if c.stream != nil {
		defer buf.Release()
		return c.stream.finish(h, payload[h.Head:])
	}
	c.answer = Answer{Type: h.Type, Head: payload[:h.Head:h.Head], Body: payload[h.Head:], head: buf}
	c.woken <- struct{}{}
	return nil
}

func (s *Session) readLongAnswer(h Header) error {
	head := s.cfg.Pool.Get(int(h.Head))
	if err := s.r.Payload(head.Bytes()); err != nil {
		return err
	}
	s.mu.Lock()
	c := s.calls[h.ID]
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	if c.stream != nil || c.body.buf != nil {
		return fmt.Errorf("%w: second answer to one call", ErrProtocol)
	}
	answer := Answer{Type: h.Type, Head: head.Bytes(), head: head}
	if h.Flags&FlagStream != 0 {
		stream := newStreamReader(s, c.id)
		answer.Stream = stream
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.calls[h.ID] != c {
			return nil
		}
		// The call stays registered until the stream ends.
		c.stream, c.answer = stream, answer
		c.woken <- struct{}{}
		return nil
	}
	size, err := s.readSize(h)
	if err != nil {
		return err
	}
	if size > uint64(s.cfg.MaxBody) {
		return s.refuseAnswer(c, size)
	}
	answer.body = s.cfg.Pool.Get(int(size))
	answer.Body = answer.body.Bytes()
	c.answer, c.body = answer, assembly{buf: answer.body}
	return nil
}

// refuseAnswer gives the caller an error instead of a body that is too large. The chunks that follow belong
// to no call and are skipped.
func (s *Session) refuseAnswer(c *call, size uint64) error {
	if !s.unregister(c) {
		return nil
	}
	f := Failure{Kind: KindPlatform, Type: "ResponseTooLarge", Message: fmt.Sprintf("response of %d bytes, %d allowed", size, s.cfg.MaxBody)}
	body := f.AppendTo(nil)
	c.answer = Answer{Type: ErrorReply, Body: body}
	c.woken <- struct{}{}
	return nil
}

// readAnswerChunk continues the answer to a call of this side.
func (s *Session) readAnswerChunk(h Header) error {
	s.mu.Lock()
	c := s.calls[h.ID]
	s.mu.Unlock()
	switch {
	case c == nil:
		if h.Flags&FlagEnd != 0 {
			s.settle(h.ID)
		}
		return nil
	case c.stream != nil:
		return s.readStreamChunk(c, h)
	case c.body.buf == nil:
		return fmt.Errorf("%w: chunk before its answer", ErrProtocol)
	}
	complete, err := s.readChunk(&c.body, h)
	if err != nil || !complete {
		return err
	}
	if s.unregister(c) {
		c.woken <- struct{}{}
	} else {
		s.settle(h.ID) // The caller left since c was looked up.
	}
	return nil
}

func (s *Session) readStreamChunk(c *call, h Header) error {
	buf := s.cfg.Pool.Get(int(h.Length))
	if err := s.r.Payload(buf.Bytes()); err != nil {
		return err
	}
	if !c.stream.push(buf) {
		return fmt.Errorf("%w: stream overran its credit", ErrProtocol)
	}
	if h.Flags&FlagEnd == 0 {
		return nil
	}
	if s.unregister(c) {
		c.stream.end(io.EOF)
	} else {
		s.settle(h.ID) // The reader left since c was looked up.
	}
	return nil
}
