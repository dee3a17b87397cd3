package executor

import (
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/plugins"
)

var (
	// ErrQueueFull says that every instance that this node may have is busy and
	// the queue is at its limit. Try another node, or later.
	ErrQueueFull = fmt.Errorf("queue is full: %w", plugins.ErrNotStarted)

	// ErrNoCapacity says that the version has no instance here and that the
	// memory of this node has no room for one, even after ending idle ones.
	ErrNoCapacity = fmt.Errorf("no memory for another instance: %w", plugins.ErrNotStarted)

	// ErrReserved says that this node's share of the function's reserved concurrency
	// is in use. Try another node, or later.
	ErrReserved = fmt.Errorf("this node's share of the reserved concurrency is in use: %w", plugins.ErrNotStarted)

	// ErrDraining says that the executor takes no new calls because its node is
	// being emptied.
	ErrDraining = fmt.Errorf("executor is draining: %w", plugins.ErrNotStarted)

	// ErrClosed says that Run has not begun or has returned.
	ErrClosed = fmt.Errorf("executor is not running: %w", plugins.ErrNotStarted)

	// ErrTimeout says that a call ran longer than its version allows or than
	// its caller waits. The instance and everything that it started are gone
	// when this is returned; what the call did before is unknown.
	ErrTimeout = errors.New("function timed out")
)

// StartError says that an instance could not be started, so that the calls that
// waited for it did not start either. It is final for them; whether a later
// start may go better is for the caller to judge.
type StartError struct {
	Key Key
	// Reason is one line for the function's author.
	Reason string
	// Log is the end of what the instance printed before it was given up.
	Log string
	// Err is the cause.
	Err error
}

// Error says which version did not start, and why.
func (e *StartError) Error() string {
	return fmt.Sprintf("start instance of %s: %s", e.Key, e.Reason)
}

// Unwrap returns the cause and plugins.ErrNotStarted.
func (e *StartError) Unwrap() []error { return []error{e.Err, plugins.ErrNotStarted} }

// CrashLoopError refuses a call because the version's instances kept ending
// before they completed a single call. The next start is tried after Until.
type CrashLoopError struct {
	Key Key
	// Until is when a call will cause the next start.
	Until time.Time
	// Failures is how many instances in a row failed.
	Failures int
	// Reason is why the last of them did.
	Reason string
}

// Error says how often instances failed and why the last one did.
func (e *CrashLoopError) Error() string {
	return fmt.Sprintf("%s keeps crashing (%d times, next start at %s): %s",
		e.Key, e.Failures, e.Until.Format(time.RFC3339), e.Reason)
}

// Unwrap returns plugins.ErrNotStarted.
func (e *CrashLoopError) Unwrap() error { return plugins.ErrNotStarted }
