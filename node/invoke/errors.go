package invoke

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound says that the function, or the qualifier of it, is unknown
	// here. A caller that has just deployed may retry: this node may be behind.
	ErrNotFound = errors.New("unknown function")
	// ErrTimeout says that the call ran out of time. The instance that ran it
	// has been ended; what it did before is unknown.
	ErrTimeout = errors.New("invocation timed out")
	// ErrDraining says that this node takes no new work. Another one does.
	ErrDraining = errors.New("node is draining")
	// ErrTooDeep says that functions invoked each other more than MaxDepth
	// levels deep, most likely in a loop.
	ErrTooDeep = errors.New("invocation depth limit reached")
	// ErrCanceled says that the caller went away before the answer.
	ErrCanceled = errors.New("caller is gone")
)

// BusyError says that every node that may run the function is at its limit. The
// call certainly did not start.
type BusyError struct {
	// Function is the version that had no room.
	Function string
	// Reason is the refusal of the last node that was asked.
	Reason string
	// RetryAfter is when trying again may help.
	RetryAfter time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("no capacity for %s: %s", e.Function, e.Reason)
}

// StartError says that no instance of the version could be started: its init
// failed, it crashed, or no node can run it. The call certainly did not start.
type StartError struct {
	Function string
	// Reason is what the function printed or the platform found, for its author.
	Reason string
}

func (e *StartError) Error() string {
	return fmt.Sprintf("start an instance of %s: %s", e.Function, e.Reason)
}

// UnknownOutcomeError says that the node or the instance that ran the call was
// lost while the call was open, and that the function does not declare itself
// idempotent, so that the call was not sent again.
type UnknownOutcomeError struct {
	Function string
	Err      error
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("outcome of %s is unknown: %v", e.Function, e.Err)
}

func (e *UnknownOutcomeError) Unwrap() error { return e.Err }
