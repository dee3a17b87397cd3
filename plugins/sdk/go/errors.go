package covey

import (
	"errors"
	"fmt"
	"strings"

	"github.com/covey-dev/covey/plugins/frame"
)

// ErrNotStarted is wrapped by the error of a host call that certainly had no effect: it may be tried again.
var ErrNotStarted = frame.ErrNotStarted

// Error is an error with a type that crosses the process boundary. A handler returns one (wrapped or not) to
// let callers branch on Type; [Invoke] returns one for the error of the function that it called.
type Error struct {
	// Type is a short stable name such as "NotFound".
	Type string
	// Message is for people.
	Message string
	// Stack is where the function fell over the error, if it did; lines for people.
	Stack string
	// Platform is true if Covey and not the function failed. It is ignored in a handler's error.
	Platform bool
	// Unhandled is true if the function did not return the error but fell over it.
	Unhandled bool
}

// Errorf returns an *Error with a formatted message.
func Errorf(typ, format string, args ...any) *Error {
	return &Error{Type: typ, Message: fmt.Sprintf(format, args...)}
}

// Error returns type and message.
func (e *Error) Error() string { return e.Type + ": " + e.Message }

// panicError is what a handler panicked with.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprint("panic: ", e.value) }

// The two functions below carry errors across the process boundary, one each way.

// failureOf is how the node learns of a handler's error.
func failureOf(err error) *frame.Failure {
	var p *panicError
	var typed *Error
	switch {
	case errors.As(err, &p):
		return &frame.Failure{Kind: frame.KindUnhandled, Type: "Panic", Message: fmt.Sprint(p.value), Stack: p.stack}
	case errors.As(err, &typed):
		message := err.Error()
		if err == error(typed) { //nolint:errorlint // Only the bare error has no context to keep.
			message = typed.Message
		}
		kind := frame.KindFunction
		if typed.Unhandled {
			kind = frame.KindUnhandled
		}
		return &frame.Failure{Kind: kind, Type: typed.Type, Message: message, Stack: typed.Stack}
	}
	return &frame.Failure{Type: typeName(err), Message: err.Error()}
}

// typeName is the Go type of the innermost error without its package: the outer ones are mostly fmt's.
func typeName(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	name := fmt.Sprintf("%T", err)
	return name[strings.LastIndexByte(name, '.')+1:]
}

// errorOf is what a host call's caller gets.
func errorOf(f *frame.Failure) *Error {
	return &Error{
		Type: f.Type, Message: f.Message, Stack: f.Stack,
		Platform: f.Kind == frame.KindPlatform, Unhandled: f.Kind == frame.KindUnhandled,
	}
}
