package invoke

import (
	"errors"
	"strings"
	"testing"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/scheduler"
)

var fKey = state.FunctionKey{App: "default", Name: "f"}

func (w *world) version() *state.Version {
	return w.store.View().Function("default", "f").Newest()
}

func TestReservedFunctionRunsOnlyWhereItHasAShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &clusterpb.VersionConfig{Reserved: 1})
	view := w.store.View()
	holder := view.Reservation(fKey).Places[0].Node
	for _, m := range view.Members() {
		spec, ok := SpecOn(view, m.ID, w.version())
		if ok != (m.ID == holder) || (ok && (!spec.Reserved || spec.Max != 1)) {
			t.Errorf("on %s: %v %+v, the share is on %s", m.ID, ok, spec, holder)
		}
	}
	w.load = executor.Load{Instances: 1, Free: 1}
	for range 20 {
		if _, err := w.invoke(&Request{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, asked := range w.asked {
		if !strings.HasPrefix(asked, string(holder)+"/") {
			t.Errorf("a call was sent to %s, the share is on %s", asked, holder)
		}
	}
}

func TestInstancesAreNoMoreThanTheShareFills(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &clusterpb.VersionConfig{Reserved: 9, Concurrency: 2, Max: 6})
	spec, ok := SpecOn(w.store.View(), self, w.version())
	if !ok || spec.Max != 2 {
		t.Errorf("a share of 3 with 2 calls an instance has %d instances, max allows 2: %v", spec.Max, ok)
	}
	a := assignmentOf(w.store.View(), w.version())
	if a.Everywhere || len(a.Places) != 3 || a.Places[0].Max != 2 {
		t.Errorf("calls may go to %+v", a)
	}
}

func TestFullSharesAreRefusedAsBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &clusterpb.VersionConfig{Reserved: 3})
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, executor.ErrReserved }
	w.remote = func(state.NodeID, *Call) (*Response, *scheduler.Load, error) {
		return nil, &scheduler.Load{Full: true}, executor.ErrReserved
	}
	_, err := w.invoke(&Request{})
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || busy.RetryAfter <= 0 || !strings.Contains(busy.Error(), "reserved concurrency") {
		t.Errorf("got %v", err)
	}
	if len(w.asked) != 3 {
		t.Errorf("asked %v, each of three nodes has a share", w.asked)
	}
}

func TestLoadLeavesOutWhatTheShareDoesNotAllow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &clusterpb.VersionConfig{Reserved: 6, Concurrency: 8})
	at := w.path.tables.find(w.store.View(), w.version())
	for _, tc := range []struct {
		has  executor.Load
		free int
		full bool
	}{
		{executor.Load{Instances: 1, Free: 8}, 2, false},
		{executor.Load{Instances: 1, Free: 7, InFlight: 1, Entered: 1}, 1, false},
		// Another version of the function has the rest.
		{executor.Load{Instances: 1, Free: 7, InFlight: 1, Entered: 2, Waiting: 3}, 0, false},
		{executor.Load{Instances: 1, Free: 7, InFlight: 1, Entered: 2, Waiting: state.DefaultQueue}, 0, true},
	} {
		w.load = tc.has
		if got := w.path.load(at); got.Free != tc.free || got.Full != tc.full || got.Queued != tc.has.Waiting {
			t.Errorf("%+v is told as %+v", tc.has, got)
		}
	}
}

func TestRateBoundsTheCallsThatEnterHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &clusterpb.VersionConfig{Rate: &clusterpb.Rate{PerSecond: 1, Burst: 3}})
	w.load = executor.Load{Instances: 1, Free: 1}
	refused := 0
	var last error
	for range 100 { // far fewer than a second each, and if not, the first three still pass
		if _, err := w.invoke(&Request{}); err != nil {
			refused, last = refused+1, err
		}
	}
	busy, ok := errors.AsType[*BusyError](last)
	if !ok || refused == 0 || refused > 97 || !strings.Contains(busy.Reason, "rate limit") || busy.RetryAfter <= 0 {
		t.Errorf("%d of 100 calls were refused, the last with %v", refused, last)
	}
	// Calls that other nodes let in are not counted again here.
	call := &Call{Version: w.version().Key, Request: &Request{ID: "r"}, Attempt: 1}
	if _, _, err := w.path.Serve(t.Context(), call); err != nil {
		t.Errorf("a call from another node: %v", err)
	}
}
