package frame

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Incoming is a call of the other side while its handler runs. Its methods are for the handler's goroutine.
type Incoming struct {
	s          *Session
	id         uint64
	typ        Type
	head, body *Buffer
	headLen    int
	assembly   assembly
	ctx        callContext
	answered   bool
	stream     *StreamWriter // guarded by the session's mutex
}

// Type is InvokeCall or HostCallRequest.
func (in *Incoming) Type() Type { return in.typ }

// Head is the encoded message head.
func (in *Incoming) Head() []byte { return in.head.Bytes()[:in.headLen] }

// Body is the whole body.
func (in *Incoming) Body() []byte {
	if in.body != nil {
		return in.body.Bytes()
	}
	return in.head.Bytes()[in.headLen:]
}

// TakeBody returns the body as memory that the caller owns, so that it may be kept after the handler returns.
// Body is empty afterwards.
func (in *Incoming) TakeBody() []byte {
	if in.body != nil {
		b := in.body.Bytes()
		in.body = nil
		return b
	}
	b := bytes.Clone(in.head.Bytes()[in.headLen:])
	in.head.b = in.head.b[:in.headLen]
	return b
}

// SetTimeout bounds the context, from now. It must be called before Context, at most once.
func (in *Incoming) SetTimeout(d time.Duration) { in.ctx.deadline = time.Now().Add(d) }

// Context ends when the caller cancels, the timeout passes, the session ends, or the handler returns. It
// may be kept longer than the Incoming.
func (in *Incoming) Context() context.Context { return &in.ctx }

// Answer ends the call with a frame of type t. Only the first answer counts. If head or body is too large the
// caller gets an ERROR of type ResponseTooLarge, and Answer an error that wraps [ErrTooLarge].
func (in *Incoming) Answer(t Type, head Appender, body []byte) error {
	if in.answered {
		return nil
	}
	in.answered = true
	// The slot is free before the answer leaves, or the caller's next call could find it taken.
	in.release()
	var err error
	if len(body) > in.s.cfg.MaxBody {
		err = fmt.Errorf("%w: body of %d bytes, %d allowed", ErrTooLarge, len(body), in.s.cfg.MaxBody)
	} else {
		err = in.send(Header{Type: t, ID: in.id}, head, body)
	}
	if tooLarge(err) {
		f := Failure{Kind: KindPlatform, Type: "ResponseTooLarge", Message: err.Error()}
		err = errors.Join(err, in.send(Header{Type: ErrorReply, ID: in.id}, nil, f.AppendTo(nil)))
	}
	return err
}

// Fail ends the call with an ERROR.
func (in *Incoming) Fail(head Appender, f *Failure) error {
	return in.Answer(ErrorReply, head, f.AppendTo(nil))
}

// Refuse ends the call with a REFUSED: the caller may take it that nothing has started.
func (in *Incoming) Refuse(head Appender, r *Refusal) error {
	return in.Answer(RefusedReply, head, r.AppendTo(nil))
}

// Stream begins a streamed answer of type t, which the handler must close before it returns.
func (in *Incoming) Stream(t Type, head Appender) (*StreamWriter, error) {
	if in.answered {
		return nil, errors.New("start stream: the call is answered")
	}
	in.answered = true
	w := &StreamWriter{in: in, credit: in.s.peerWindow.Load(), more: make(chan struct{}, 1)}
	in.s.mu.Lock()
	in.stream = w
	in.s.mu.Unlock()
	return w, in.send(Header{Type: t, Flags: FlagStream, ID: in.id}, head, nil)
}

func (in *Incoming) send(h Header, head Appender, body []byte) error {
	if _, err := in.s.w.Message(h, head, body); err != nil {
		return fmt.Errorf("answer call: %w", err)
	}
	return nil
}

// release forgets the call, so that its id can no longer be cancelled.
func (in *Incoming) release() {
	in.s.mu.Lock()
	delete(in.s.served, in.id)
	in.s.mu.Unlock()
}

// readCall takes the first frame of a call.
func (s *Session) readCall(h Header) error {
	first := int(h.Length)
	var size uint64
	if h.Flags&FlagMore != 0 {
		first = int(h.Head)
	}
	buf := s.cfg.Pool.Get(first)
	if err := s.r.Payload(buf.Bytes()); err != nil {
		return err
	}
	if h.Flags&FlagMore != 0 {
		var err error
		if size, err = s.readSize(h); err != nil {
			return err
		}
	}
	in := &Incoming{s: s, id: h.ID, typ: h.Type, head: buf, headLen: int(h.Head)}
	refusal, err := s.admit(in, size)
	switch {
	case err != nil:
		return err
	case refusal != nil:
		buf.Release()
		_, err := s.w.Message(Header{Type: RefusedReply, ID: h.ID}, nil, refusal.AppendTo(nil))
		return err
	case size == 0:
		s.start(in)
	}
	return nil
}

// admit registers the call, or says why not.
func (s *Session) admit(in *Incoming, size uint64) (*Refusal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, s.err
	case in.id == 0 || s.served[in.id] != nil:
		return nil, fmt.Errorf("%w: call id %d is in use", ErrProtocol, in.id)
	case s.cfg.Handler == nil:
		return &Refusal{Code: RefusedBusy, Message: "this side serves no calls"}, nil
	case s.draining:
		return &Refusal{Code: RefusedDraining, Message: "no further calls are taken"}, nil
	case len(s.served) >= s.cfg.MaxIncoming:
		return &Refusal{Code: RefusedBusy, Message: fmt.Sprintf("%d calls are running", len(s.served))}, nil
	case size > uint64(s.cfg.MaxBody):
		return &Refusal{Code: RefusedTooLarge, Message: fmt.Sprintf("body of %d bytes, %d allowed", size, s.cfg.MaxBody)}, nil
	}
	if size > 0 {
		in.body = s.cfg.Pool.Get(int(size))
		in.assembly = assembly{buf: in.body}
	}
	s.served[in.id] = in
	return nil, nil
}

// readCallChunk continues the body of a call of the other side.
func (s *Session) readCallChunk(h Header) error {
	s.mu.Lock()
	in := s.served[h.ID]
	s.mu.Unlock()
	if in == nil || in.assembly.buf == nil {
		return nil // Refused or cancelled; the rest was on the way.
	}
	complete, err := s.readChunk(&in.assembly, h)
	if complete && err == nil {
		in.assembly = assembly{}
		s.start(in)
	}
	return err
}

// start runs the handler of a complete call, or holds the call.
func (s *Session) start(in *Incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
	case s.holding:
		s.held = append(s.held, in)
	default:
		// Under the lock, so that no handler starts after fail; Run waits for handlers after that.
		s.serving.Add(1)
		select {
		case s.work <- in:
		default: // No goroutine is idle.
			s.handlers.Add(1)
			go s.serve(in)
		}
	}
}

// maxIdle bounds the goroutines of a session that wait for another call.
const maxIdle = 64

// serve runs handlers, one after the other, until there is none to run and enough goroutines wait for one. A
// new goroutine for each call would have to grow its stack each time, which costs more than the rest of serving.
func (s *Session) serve(in *Incoming) {
	defer s.handlers.Done()
	for in != nil {
		s.handle(in)
		in = s.next()
	}
}

func (s *Session) handle(in *Incoming) {
	// Deferred, because a handler may end its goroutine.
	defer s.finish(in)
	s.cfg.Handler(in)
}

// next waits for a call. It returns nil when the goroutine shall end.
func (s *Session) next() *Incoming {
	defer s.idle.Add(-1)
	if s.idle.Add(1) > maxIdle {
		return nil
	}
	select {
	case in := <-s.work:
		return in
	case <-s.done:
		return nil
	}
}

// finish makes up for what a handler left undone and frees what it held.
func (s *Session) finish(in *Incoming) {
	s.serving.Add(-1)
	if !in.answered {
		_ = in.Fail(nil, &Failure{Kind: KindPlatform, Type: "NoAnswer", Message: "the handler returned without an answer"})
	}
	if in.stream != nil {
		_ = in.stream.Close()
	}
	in.ctx.cancel(context.Canceled)
	in.head.Release()
	in.body.Release()
	in.head, in.body = nil, nil
}

// cancelServed tells the handler that nobody waits. A call that is not complete yet is forgotten.
func (s *Session) cancelServed(id uint64) {
	s.mu.Lock()
	in := s.served[id]
	if in != nil && in.assembly.buf != nil {
		delete(s.served, id)
	}
	s.mu.Unlock()
	if in != nil {
		in.ctx.cancel(context.Canceled)
	}
}

// readCredit passes credit on to the stream it is for.
func (s *Session) readCredit(h Header) error {
	var b [creditSize]byte
	if h.Length != creditSize {
		return fmt.Errorf("%w: CREDIT of %d bytes", ErrProtocol, h.Length)
	}
	if err := s.r.Payload(b[:]); err != nil {
		return err
	}
	var w *StreamWriter
	s.mu.Lock()
	if in := s.served[h.ID]; in != nil {
		w = in.stream
	}
	s.mu.Unlock()
	if w != nil && !w.grant(binary.LittleEndian.Uint32(b[:])) {
		return fmt.Errorf("%w: credit overflows", ErrProtocol)
	}
	return nil
}

func tooLarge(err error) bool { return errors.Is(err, ErrTooLarge) }
