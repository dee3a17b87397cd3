package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins/frame"
)

// serve runs one connection of another node until it ends.
func (l *Link) serve(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	from, err := l.cfg.PeerID(conn)
	if err != nil {
		_ = conn.Close()
		l.log.Debug().Err(err).Msg("peer connection refused")
		return
	}
	var session *frame.Session
	session = frame.NewSession(conn, frame.SessionConfig{
		Handler: func(in *frame.Incoming) { l.handle(from, in) },
		Control: func(h frame.Header, payload []byte) error {
			if h.Type != frame.Hello {
				return nil
			}
			if _, err := agree(payload[:h.Head]); err != nil {
				return err
			}
			session.Admit()
			return nil
		},
		Hold:        true, // until versions are agreed
		Direct:      true,
		MaxIncoming: l.cfg.InFlightMax,
		MaxBody:     l.cfg.BodyMax,
		Pool:        &l.pool,
	})
	if !l.enter(session, from) {
		_ = session.Close()
		_ = session.Run()
		return
	}
	defer l.leave(session)
	l.Poke(from) // who calls is there
	if err := l.greet(session); err != nil {
		_ = session.Close()
	}
	if err := session.Run(); err != nil {
		l.log.Debug().Err(err).Str("peer", string(from)).Msg("peer connection ended")
	}
}

// greet says HELLO, and DRAIN when that is the state of things.
func (l *Link) greet(s *frame.Session) error {
	if err := s.Send(frame.Hello, l.greeting(), nil); err != nil {
		return err
	}
	if l.draining.Load() {
		return sendDraining(s, true)
	}
	return nil
}

// enter counts a connection of another node; false means that it has too many.
func (l *Link) enter(s *frame.Session, from state.NodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, id := range l.inbound {
		if id == from {
			n++
		}
	}
	if l.closed || n >= l.cfg.InboundMax {
		return false
	}
	l.inbound[s] = from
	return true
}

// leave forgets a connection that ended.
func (l *Link) leave(s *frame.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.inbound, s)
}

// opPing is the operation of the host call by which a link is checked.
const opPing = "ping"

// handle serves one call of another node.
func (l *Link) handle(from state.NodeID, in *frame.Incoming) {
	if in.Type() == frame.HostCallRequest {
		// The only one is a ping, and an unknown one is answered like it: the link works.
		_ = in.Answer(frame.HostReply, nil, nil)
		return
	}
	if l.draining.Load() {
		l.answerError(in, nil, ErrDraining)
		return
	}
	call, ok := l.calls.Get().(*Call)
	if !ok {
		call = new(Call)
	}
	defer func() {
		*call = Call{}
		l.calls.Put(call)
	}()
	if err := call.parse(in.Head()); err != nil {
		l.answerError(in, nil, &RefusedError{Code: "malformed", Message: err.Error()})
		return
	}
	if call.Remaining > 0 {
		call.Deadline = time.Now().Add(call.Remaining)
	}
	call.Body = in.Body()
	l.metrics.served.Inc()
	reply, err := l.cfg.Handler(in.Context(), from, call)
	defer reply.Release()
	switch {
	case err != nil:
		l.answerError(in, reply, err)
	case reply == nil:
		l.answerError(in, nil, errors.New("handler gave no reply"))
	case reply.Stream != nil:
		l.answerStream(in, reply)
	default:
		err := in.Answer(frame.ResultReply, &report{reply: reply, result: true}, reply.Body)
		if errors.Is(err, frame.ErrTooLarge) {
			l.answerError(in, reply, &RemoteError{Code: "response_too_large", Message: err.Error()})
		}
	}
}

// answerError ends the call with an error and what the reply says beside it. If
// even that cannot be sent the session is gone, and with it the caller.
func (l *Link) answerError(in *frame.Incoming, reply *Reply, err error) {
	if reply == nil {
		reply = new(Reply)
	}
	v := encodeError(err)
	head := &report{reply: reply, details: v.details}
	if v.refusal != nil {
		_ = in.Refuse(head, v.refusal)
		return
	}
	_ = in.Fail(head, v.failure)
}

// streamBuffer is the size of the pieces that a stream is copied in.
const streamBuffer = 32 << 10

// answerStream copies the function's stream to the caller, at the pace at which
// the caller reads.
func (l *Link) answerStream(in *frame.Incoming, reply *Reply) {
	defer func() { _ = reply.Stream.Close() }()
	w, err := in.Stream(frame.ResultReply, &report{reply: reply, result: true})
	if err != nil {
		return
	}
	buf := l.pool.Get(streamBuffer)
	defer buf.Release()
	for {
		n, err := reply.Stream.Read(buf.Bytes())
		if n > 0 {
			if _, werr := w.Write(buf.Bytes()[:n]); werr != nil {
				return // the caller is gone: its context has ended
			}
		}
		if errors.Is(err, io.EOF) {
			_ = w.Close()
			return
		}
		if err != nil {
			_ = w.Fail(streamFailure(err))
			return
		}
	}
}

// streamFailure is an error in the middle of a stream: the call has started,
// whatever the error says.
func streamFailure(err error) *frame.Failure {
	if v := encodeError(err); v.failure != nil {
		return v.failure
	}
	return &frame.Failure{Kind: frame.KindPlatform, Type: codeInternal, Message: fmt.Sprintf("stream: %v", err)}
}
