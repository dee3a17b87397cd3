package link

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

var (
	// ErrNotStarted is wrapped by every error after which the call certainly did
	// not start. It may be sent elsewhere, whatever the function declares.
	ErrNotStarted = plugins.ErrNotStarted

	// ErrUnreachable says that there is no link to the node now. Nothing was sent.
	ErrUnreachable = fmt.Errorf("node is unreachable: %w", ErrNotStarted)

	// ErrBroken says that the link broke while the call was open. Without
	// ErrNotStarted beside it the outcome is unknown.
	ErrBroken = errors.New("link to the node broke")

	// ErrBusy says that the link has as many calls open as it may, on either side.
	ErrBusy = fmt.Errorf("too many calls on the link: %w", ErrNotStarted)

	// ErrDraining says that the other node takes no new calls. Try another.
	ErrDraining = fmt.Errorf("node is draining: %w", ErrNotStarted)

	// ErrTooLarge says that a body exceeds what the link carries.
	ErrTooLarge = errors.New("body too large for the link")

	// ErrUnknownVersion says that the other node's view does not have the version
	// yet, or not any more. A handler returns it; try another node.
	ErrUnknownVersion = fmt.Errorf("version is unknown there: %w", ErrNotStarted)

	// ErrClosed says that the link was closed on this side.
	ErrClosed = fmt.Errorf("peer link is closed: %w", ErrNotStarted)
)

// RefusedError is a refusal for a reason that has no Go error of its own here.
// The call certainly did not start.
type RefusedError struct {
	// Code is a short stable word.
	Code, Message string
	// RetryAfter is the other side's advice, zero when it gave none.
	RetryAfter time.Duration
}

// Error names code and message.
func (e *RefusedError) Error() string { return "refused (" + e.Code + "): " + e.Message }

// Unwrap returns ErrNotStarted.
func (e *RefusedError) Unwrap() error { return ErrNotStarted }

// RemoteError is a failure of the other node after the call may have started:
// the outcome is unknown.
type RemoteError struct {
	// Code is a short stable word.
	Code, Message string
}

// Error names code and message.
func (e *RemoteError) Error() string { return "other node (" + e.Code + "): " + e.Message }

// The words that stand for Go errors on the wire. They never change meaning.
const (
	codeQueueFull  = "queue_full"
	codeNoCapacity = "no_capacity"
	codeReserved   = "reserved"
	codeDraining   = frame.RefusedDraining
	codeNotRunning = "not_running"
	codeUnknown    = "unknown_version"
	codeHops       = "hops"
	codeNowhere    = "nowhere"
	codeStart      = "start_failed"
	codeCrashLoop  = "crash_loop"
	codeNotStarted = "not_started"
	codeTimeout    = "timeout"
	codeExit       = "exit"
	codeCancelled  = "cancelled"
	codeInternal   = "internal"
)

// Details that travel beside an error.
const (
	detailLog      = "log"
	detailUntil    = "until_ms"
	detailFailures = "failures"
	detailVersion  = "version"
)

// logMax keeps an error's head within a frame's.
const logMax = 16 << 10

// refusals pairs the sentinels that need no details with their codes.
var refusals = [...]struct {
	err  error
	code string
}{
	{executor.ErrQueueFull, codeQueueFull},
	{executor.ErrNoCapacity, codeNoCapacity},
	{executor.ErrReserved, codeReserved},
	{executor.ErrDraining, codeDraining},
	{executor.ErrClosed, codeNotRunning},
	{ErrDraining, codeDraining},
	{ErrUnknownVersion, codeUnknown},
	{scheduler.ErrHops, codeHops},
	{scheduler.ErrNowhere, codeNowhere},
}

// verdict is an error as it travels: one of refusal and failure is set.
type verdict struct {
	refusal *frame.Refusal
	failure *frame.Failure
	details frame.Attributes
}

// encodeError maps a handler's error to the wire. What certainly did not start
// is a refusal, the rest a failure.
func encodeError(err error) verdict {
	if fe, ok := errors.AsType[*plugins.FunctionError](err); ok {
		kind := frame.KindFunction
		if fe.Unhandled {
			kind = frame.KindUnhandled
		}
		return verdict{failure: &frame.Failure{Kind: kind, Type: fe.Type, Message: fe.Message, Stack: fe.Stack}}
	}
	if loop, ok := errors.AsType[*executor.CrashLoopError](err); ok {
		return verdict{
			refusal: &frame.Refusal{Code: codeCrashLoop, Message: loop.Reason, RetryAfter: max(time.Until(loop.Until), 0)},
			details: frame.Attributes{
				{Name: detailVersion, Value: loop.Key.String()},
				{Name: detailUntil, Value: strconv.FormatInt(loop.Until.UnixMilli(), 10)},
				{Name: detailFailures, Value: strconv.Itoa(loop.Failures)},
			},
		}
	}
	if start, ok := errors.AsType[*executor.StartError](err); ok {
		return verdict{
			refusal: &frame.Refusal{Code: codeStart, Message: start.Reason},
			details: frame.Attributes{
				{Name: detailVersion, Value: start.Key.String()},
				{Name: detailLog, Value: start.Log[max(0, len(start.Log)-logMax):]},
			},
		}
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return verdict{refusal: &frame.Refusal{Code: r.code, Message: err.Error()}}
		}
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return verdict{refusal: &frame.Refusal{Code: refused.Code, Message: refused.Message, RetryAfter: refused.RetryAfter}}
	}
	if errors.Is(err, ErrNotStarted) {
		return verdict{refusal: &frame.Refusal{Code: codeNotStarted, Message: err.Error()}}
	}
	return verdict{failure: &frame.Failure{Kind: frame.KindPlatform, Type: failureCode(err), Message: err.Error()}}
}

// failureCode names a failure after which the outcome is unknown. One that came
// from a third node keeps its name.
func failureCode(err error) string {
	if remote, ok := errors.AsType[*RemoteError](err); ok {
		return remote.Code
	}
	if _, ok := errors.AsType[*plugins.ExitError](err); ok {
		return codeExit
	}
	switch {
	case errors.Is(err, executor.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return codeTimeout
	case errors.Is(err, context.Canceled):
		return codeCancelled
	}
	return codeInternal
}

// decodeRefusal is the inverse of encodeError for refusals, those of the other
// side's session included. Its errors wrap ErrNotStarted.
func decodeRefusal(r *frame.Refusal, details frame.Attributes) error {
	switch r.Code {
	case codeDraining:
		return ErrDraining
	case frame.RefusedBusy:
		return ErrBusy
	case frame.RefusedTooLarge:
		return fmt.Errorf("%w: %s: %w", ErrTooLarge, r.Message, ErrNotStarted)
	case codeStart:
		return &executor.StartError{
			Key: parseKey(details.Get(detailVersion)), Reason: r.Message, Log: details.Get(detailLog),
			Err: &RefusedError{Code: r.Code, Message: r.Message},
		}
	case codeCrashLoop:
		until, _ := strconv.ParseInt(details.Get(detailUntil), 10, 64)
		failures, _ := strconv.Atoi(details.Get(detailFailures))
		return &executor.CrashLoopError{
			Key: parseKey(details.Get(detailVersion)), Until: time.UnixMilli(until), Failures: failures, Reason: r.Message,
		}
	}
	for _, known := range refusals {
		if r.Code == known.code {
			return fmt.Errorf("%w: %w", known.err, ErrNotStarted)
		}
	}
	return &RefusedError{Code: r.Code, Message: r.Message, RetryAfter: r.RetryAfter}
}

// decodeFailure is the inverse of encodeError for failures.
func decodeFailure(f *frame.Failure) error {
	switch f.Kind {
	case frame.KindFunction, frame.KindUnhandled:
		return &plugins.FunctionError{
			Type: f.Type, Message: f.Message, Stack: f.Stack, Unhandled: f.Kind == frame.KindUnhandled,
		}
	}
	remote := &RemoteError{Code: f.Type, Message: f.Message}
	switch f.Type {
	case codeTimeout:
		return fmt.Errorf("%w: %w", executor.ErrTimeout, remote)
	case codeExit:
		return &plugins.ExitError{Cause: remote}
	case codeCancelled:
		return fmt.Errorf("%w: %w", context.Canceled, remote)
	}
	return remote
}

// transportError maps an error of our own session. Whether it wraps
// ErrNotStarted was decided there, by what left this process.
func transportError(err error) error {
	switch {
	case errors.Is(err, frame.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, frame.ErrClosed):
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return err
}

// parseKey reads what executor.Key.String wrote; the zero Key when it cannot.
func parseKey(text string) executor.Key {
	key, err := state.ParseVersionKey(text)
	if err != nil {
		return executor.Key{}
	}
	return executor.Key{App: string(key.App), Function: string(key.Function), Version: uint64(key.Number)}
}
