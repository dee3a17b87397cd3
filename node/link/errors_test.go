package link

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

// overWire sends an error through both mappings and the codec between them.
func overWire(t *testing.T, err error) error {
	t.Helper()
	v := encodeError(err)
	in := report{reply: new(Reply)}
	if err := in.parse((&report{reply: new(Reply), details: v.details}).AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if v.refusal != nil {
		var refusal frame.Refusal
		if err := refusal.Parse(v.refusal.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		return decodeRefusal(&refusal, in.details)
	}
	var failure frame.Failure
	if err := failure.Parse(v.failure.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	return decodeFailure(&failure)
}

func TestSentinelsSurviveTheWire(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err        error
		notStarted bool
	}{
		{executor.ErrQueueFull, true},
		{executor.ErrNoCapacity, true},
		{executor.ErrDraining, true},
		{executor.ErrClosed, true},
		{ErrDraining, true},
		{ErrUnknownVersion, true},
		{scheduler.ErrHops, true},
		{scheduler.ErrNowhere, true},
		{executor.ErrTimeout, false},
		{context.Canceled, false},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			t.Parallel()
			got := overWire(t, fmt.Errorf("run call: %w", tc.err))
			want := tc.err
			if errors.Is(want, executor.ErrDraining) {
				want = ErrDraining // one word for both
			}
			if !errors.Is(got, want) {
				t.Errorf("%v became %v", tc.err, got)
			}
			if errors.Is(got, ErrNotStarted) != tc.notStarted {
				t.Errorf("%v: not started is %v, want %v", got, !tc.notStarted, tc.notStarted)
			}
		})
	}
}

func TestErrorsWithDataSurviveTheWire(t *testing.T) {
	t.Parallel()
	function := &plugins.FunctionError{Type: "Bad", Message: "m", Stack: "s", Unhandled: true}
	if got, ok := errors.AsType[*plugins.FunctionError](overWire(t, function)); !ok || !cmp.Equal(function, got) {
		t.Errorf("function error became %v", got)
	}

	key := executor.Key{App: "shop", Function: "pay", Version: 7}
	start, ok := errors.AsType[*executor.StartError](overWire(t, &executor.StartError{Key: key, Reason: "no such file", Log: "tail", Err: errors.New("x")}))
	if !ok || start.Key != key || start.Reason != "no such file" || start.Log != "tail" || !errors.Is(start, ErrNotStarted) {
		t.Errorf("start error became %+v", start)
	}

	loop := &executor.CrashLoopError{Key: key, Until: time.UnixMilli(1_900_000_000_000), Failures: 4, Reason: "exit 1"}
	gotLoop, ok := errors.AsType[*executor.CrashLoopError](overWire(t, loop))
	if !ok || !cmp.Equal(loop, gotLoop) {
		t.Errorf("crash loop became %+v", gotLoop)
	}

	exit, ok := errors.AsType[*plugins.ExitError](overWire(t, &plugins.ExitError{Cause: errors.New("signal: killed")}))
	if !ok || errors.Is(exit, ErrNotStarted) {
		t.Errorf("exit error became %v", exit)
	}

	refused := &RefusedError{Code: "of_another_layer", Message: "m", RetryAfter: time.Second}
	gotRefused, ok := errors.AsType[*RefusedError](overWire(t, refused))
	if !ok || !cmp.Equal(refused, gotRefused) {
		t.Errorf("refusal became %+v", gotRefused)
	}
}

func TestUnclassifiedErrorsKeepTheOutcome(t *testing.T) {
	t.Parallel()
	if got := overWire(t, errors.New("disk on fire")); errors.Is(got, ErrNotStarted) {
		t.Errorf("an unknown failure became %v", got)
	}
	if got := overWire(t, fmt.Errorf("try: %w", ErrNotStarted)); !errors.Is(got, ErrNotStarted) {
		t.Errorf("a refusal became %v", got)
	}
	for code, want := range map[string]error{frame.RefusedBusy: ErrBusy, frame.RefusedTooLarge: ErrTooLarge} {
		got := decodeRefusal(&frame.Refusal{Code: code}, nil)
		if !errors.Is(got, want) || !errors.Is(got, ErrNotStarted) {
			t.Errorf("refusal %q of a session became %v", code, got)
		}
	}
}
