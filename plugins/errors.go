package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/covey-dev/covey/plugins/frame"
)

var (
	// ErrNotStarted is wrapped by every error after which the call certainly did not start: the instance
	// refused it, died before READY, or never got the call's last byte. Such a call may be sent again.
	ErrNotStarted = frame.ErrNotStarted

	// ErrClosed is wrapped by the errors of a Conn that its owner closed.
	ErrClosed = frame.ErrClosed
)

// RefusedError means that the instance refused the call. It wraps [ErrNotStarted].
type RefusedError = frame.Refusal

// FunctionError is what the function itself answered: an error that it returned, or a panic.
type FunctionError struct {
	// Type is a short stable name, chosen by the function or derived from the Go type of its error.
	Type, Message string
	// Stack is set for a panic.
	Stack string
	// Unhandled is true for a panic and false for a returned error.
	Unhandled bool
}

// Error returns type and message.
func (e *FunctionError) Error() string { return "function: " + e.Type + ": " + e.Message }

// InitError means that the instance could not initialise. No call started in it.
type InitError struct {
	Type, Message, Stack string
}

// Error returns type and message.
func (e *InitError) Error() string { return "initialise instance: " + e.Type + ": " + e.Message }

// Unwrap returns [ErrNotStarted].
func (e *InitError) Unwrap() error { return ErrNotStarted }

// ExitError means that the instance's end of the connection went away, because the process exited or was
// killed. Whether the call had an effect is unknown, unless the error wraps ErrNotStarted.
type ExitError struct {
	// Cause is what the transport said.
	Cause error
}

// Error names the cause.
func (e *ExitError) Error() string { return "instance ended: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Cause }

// The two functions below carry errors across the process boundary: answerError and callError turn what came
// from the instance into this package's errors, failure turns a host handler's error into what the function gets.

// answerError is nil for a result, whose head it parses into result, and the error that any other answer is.
func answerError(a *frame.Answer, result *frame.Result) error {
	switch a.Type {
	case frame.ResultReply:
		if err := result.Parse(a.Head); err != nil {
			return fmt.Errorf("read result: %w", err)
		}
		return nil
	case frame.RefusedReply:
		refusal := new(RefusedError)
		if err := refusal.Parse(a.Body); err != nil {
			// Even a garbled refusal is one.
			return fmt.Errorf("%w: read refusal: %w", ErrNotStarted, err)
		}
		return refusal
	case frame.ErrorReply:
		var f frame.Failure
		if err := f.Parse(a.Body); err != nil {
			return fmt.Errorf("read error: %w", err)
		}
		return functionError(&f)
	}
	return fmt.Errorf("%w: %s answers a call", frame.ErrProtocol, a.Type)
}

func functionError(f *frame.Failure) *FunctionError {
	return &FunctionError{Type: f.Type, Message: f.Message, Stack: f.Stack, Unhandled: f.Kind != frame.KindFunction}
}

// callError names the error of a call that got no answer.
func (c *Conn) callError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, frame.ErrTooLarge):
		return err
	case c.closed.Load():
		return err
	case !c.started(ctx):
		return c.beforeReady(err)
	case errors.Is(err, ErrNotStarted):
		return &ExitError{Cause: fmt.Errorf("%w: %w", ErrNotStarted, withoutClosed(err))}
	}
	return &ExitError{Cause: withoutClosed(err)}
}

// CanceledError is the error of a call whose context ended before its answer; see its method Settled for when
// the instance is free again.
type CanceledError = frame.CanceledError

// failure is what a function gets of an error of its host call.
func failure(err error) *frame.Failure {
	var function *FunctionError
	var f *frame.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &function):
		kind := frame.KindFunction
		if function.Unhandled {
			kind = frame.KindUnhandled
		}
		return &frame.Failure{Kind: kind, Type: function.Type, Message: function.Message, Stack: function.Stack}
	}
	return &frame.Failure{Kind: frame.KindPlatform, Type: "HostCallFailed", Message: err.Error()}
}

// replyStream is a Reply's Stream: it names errors and gives its lane back.
type replyStream struct {
	io.ReadCloser
	conn *Conn
	lane *frame.Session // nil on the first connection
}

// Read names how the function ended: *FunctionError, *ExitError, or the context's error.
func (s *replyStream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	var f *frame.Failure
	switch {
	case errors.As(err, &f):
		return n, functionError(f)
	case errors.Is(err, frame.ErrClosed) && !s.conn.closed.Load():
		return n, &ExitError{Cause: withoutClosed(err)}
	}
	return n, fmt.Errorf("read stream: %w", err)
}

// Settled is closed once the instance is done with a stream that was given up before its end; it is nil for
// any other.
func (s *replyStream) Settled() <-chan struct{} {
	if inner, ok := s.ReadCloser.(interface{ Settled() <-chan struct{} }); ok {
		return inner.Settled()
	}
	return nil
}

// Close gives up the rest of the stream.
func (s *replyStream) Close() error {
	err := s.ReadCloser.Close()
	if s.lane != nil {
		s.conn.lanes.Put(s.lane)
		s.lane = nil
	}
	return err
}

// streamed makes the reply of an answer that streams.
func (c *Conn) streamed(answer frame.Answer, lane *frame.Session) (*Reply, error) {
	reply := &Reply{answer: answer, Stream: &replyStream{ReadCloser: answer.Stream, conn: c, lane: lane}}
	if err := reply.Parse(answer.Head); err != nil {
		_ = reply.Stream.Close()
		answer.Release()
		return nil, fmt.Errorf("read result: %w", err)
	}
	return reply, nil
}
