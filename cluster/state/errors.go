package state

import (
	"errors"
	"fmt"
	"strings"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

var (
	// ErrNoFunction is returned by Resolve for an unknown app or function.
	ErrNoFunction = errors.New("no such function")
	// ErrNoVersion is returned by Resolve for a number that does not exist, or
	// exists no longer.
	ErrNoVersion = errors.New("no such version")
	// ErrNoAlias is returned by Resolve for an unknown alias.
	ErrNoAlias = errors.New("no such alias")
	// ErrUndecodable is wrapped by the HaltError of a command or a snapshot
	// that is damaged.
	ErrUndecodable = errors.New("undecodable")
	// ErrTooNew is wrapped by the HaltError of a command or a snapshot that a
	// newer release wrote. The cure is to upgrade this node.
	ErrTooNew = errors.New("written by a newer release")
	// ErrIndex is returned by Apply for an index at or below the last one. It
	// changes nothing and does not halt: the caller replayed too much.
	ErrIndex = errors.New("index was applied before")
)

// HaltError says that a store stopped applying, where and why. The node stays
// up for reads of its last state; it must not skip the entry.
type HaltError struct {
	// Index of the entry that could not be applied; 0 for a snapshot.
	Index Index
	// Level that the entry needs, if it is known and too high, else 0.
	Level uint32
	// Err wraps ErrUndecodable or ErrTooNew.
	Err error
}

// Error tells the operator what to do.
func (e *HaltError) Error() string {
	what := fmt.Sprintf("command %d", e.Index)
	if e.Index == 0 {
		what = "snapshot"
	}
	if e.Level > 0 {
		return fmt.Sprintf("apply %s: %v: it needs feature level %d, this release knows %d: upgrade this node",
			what, e.Err, e.Level, FeatureLevel)
	}
	return fmt.Sprintf("apply %s: %v", what, e.Err)
}

// Unwrap returns Err.
func (e *HaltError) Unwrap() error { return e.Err }

// RefusalError is a refusal as a Go error, for callers that want one.
type RefusalError struct {
	Code    clusterpb.RefusalCode
	Message string
}

// Error returns the message, which is meant for the person who asked.
func (e *RefusalError) Error() string { return e.Message }

// Refused returns the refusal of a result as a *RefusalError, or nil.
func Refused(res *clusterpb.Result) error {
	if r := res.GetRefusal(); r != nil {
		return &RefusalError{Code: r.GetCode(), Message: r.GetMessage()}
	}
	return nil
}

// refuse builds an expected "no". The message is cut, because every replica
// remembers it for a while.
func refuse(code clusterpb.RefusalCode, format string, args ...any) *clusterpb.Refusal {
	msg := fmt.Sprintf(format, args...)
	if len(msg) > maxText {
		msg = msg[:maxText]
	}
	return &clusterpb.Refusal{Code: code, Message: strings.ToValidUTF8(msg, "")}
}
