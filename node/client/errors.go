package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// What an [*Error] can be matched with, by errors.Is. One sentinel stands for
// every code that a caller would treat alike.
var (
	// ErrInvalid says that the request itself is wrong.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound says that what the request names does not exist.
	ErrNotFound = errors.New("not found")
	// ErrDenied says that the token is missing, wrong, or not enough.
	ErrDenied = errors.New("denied")
	// ErrConflict says that somebody else was faster, or that it exists.
	ErrConflict = errors.New("conflict")
	// ErrBusy says that a limit is reached; later it may work.
	ErrBusy = errors.New("no capacity")
	// ErrUnavailable says that the cluster cannot do it now: no quorum, no node
	// that answers, a node that drains.
	ErrUnavailable = errors.New("unavailable")
	// ErrTimeout says that it took too long.
	ErrTimeout = errors.New("timeout")
	// ErrFunction says that the function failed, not the platform.
	ErrFunction = errors.New("function error")
)

// Error is an error that the cluster answered with.
type Error struct {
	wire.Problem
	// RetryAfter is how long the server asks to wait; 0 when it does not.
	RetryAfter time.Duration
	// Address is the node that answered.
	Address string
}

// Error returns the code and the detail, without the HTTP around them.
func (e *Error) Error() string {
	if e.Problem.Error != nil {
		return fmt.Sprintf("function error: %s: %s", e.Problem.Error.Type, e.Problem.Error.Message)
	}
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	return fmt.Sprintf("%s: %s", e.Code, text)
}

// Is matches the sentinel of the code.
func (e *Error) Is(target error) bool { return target == sentinel(e.Code) }

// sentinel gives each code its class. A code of a newer release has none.
func sentinel(code wire.Code) error {
	switch code {
	case wire.CodeBadRequest, wire.CodeMethod, wire.CodeTooLarge, wire.CodeTooDeep, wire.CodeNotImplemented, wire.CodeNoNode:
		return ErrInvalid
	case wire.CodeNotFound:
		return ErrNotFound
	case wire.CodeUnauthenticated, wire.CodeDenied, wire.CodeLimit:
		return ErrDenied
	case wire.CodeConflict, wire.CodePrecondition, wire.CodeNotIdempotent:
		return ErrConflict
	case wire.CodeBusy, wire.CodeOverloaded:
		return ErrBusy
	case wire.CodeDraining, wire.CodeNoQuorum, wire.CodeStartFailed, wire.CodeUnavailable:
		return ErrUnavailable
	case wire.CodeTimeout, wire.CodeRequestTimeout:
		return ErrTimeout
	case wire.CodeFunctionError:
		return ErrFunction
	default:
		return nil
	}
}

// UnknownOutcomeError says that the call was sent and its answer lost: it may
// or may not have run, and may not be repeated because the function does not
// declare itself idempotent.
type UnknownOutcomeError struct {
	RequestID string
	// Err is how the answer was lost.
	Err error
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("outcome of request %s is unknown: %v", e.RequestID, e.Err)
}

func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// UnreachableError says that no address could be talked to. The request
// certainly did not start. It is [ErrUnavailable].
type UnreachableError struct {
	Addresses []string
	// Err is what the last address did.
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no node of %v can be reached: %v", e.Addresses, e.Err)
}

// Unwrap returns both the class and the cause.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }
