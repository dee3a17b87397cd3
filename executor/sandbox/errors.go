package sandbox

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrLevel is returned by Start when Spec.MinLevel asks for more than this
	// machine has. Place the function elsewhere; trying again here is useless.
	ErrLevel = errors.New("sandbox level too low")

	// ErrNoUID is returned by Start when every user id of the configured range
	// belongs to a living instance.
	ErrNoUID = errors.New("no free user id for an instance")

	// ErrClosed is returned by Start after Close.
	ErrClosed = errors.New("sandbox is closed")

	// ErrUnsupported is wrapped by New on a machine where no instance could be
	// started at all.
	ErrUnsupported = errors.New("sandbox not supported on this machine")
)

// SetupError says which step of preparing an instance the kernel refused. The
// function's code has not run.
type SetupError struct {
	// Step names the step, such as "mount proc" or "exec".
	Step string
	// Errno is the kernel's answer. ENOEXEC and ENOENT at step "exec" mean that
	// the code is no program for this machine.
	Errno syscall.Errno
}

// Error says the step and the cause.
func (e *SetupError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Errno) }

// Unwrap returns the errno, so that errors.Is(err, syscall.ENOEXEC) works.
func (e *SetupError) Unwrap() error { return e.Errno }
