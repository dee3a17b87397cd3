package invoke

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/scheduler"
)

// deploy makes one more version of f.
func (w *world) deploy(name string) {
	w.t.Helper()
	w.apply(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{
		App: "default", Name: name, Config: state.WithDefaults(w.store.View().Function("default", "f").Newest().Config),
	}}})
}

func TestTrafficCountsCallsByOutcomeAndPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1} // so that calls are tried here first
	call := func(wantErr bool) {
		t.Helper()
		resp, err := w.invoke(&Request{Function: "f"})
		if (err != nil) != wantErr {
			t.Fatalf("got %v", err)
		}
		resp.Release()
	}
	call(false)
	w.local = func(*executor.Request) (*executor.Response, error) {
		r := answer("local")
		r.Cold = true
		return r, nil
	}
	call(false)
	w.local = func(*executor.Request) (*executor.Response, error) {
		return nil, &plugins.FunctionError{Type: "Oops"}
	}
	call(false)
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, plugins.ErrNotStarted }
	call(false) // runs elsewhere
	w.remote = func(state.NodeID, *Call) (*Response, *scheduler.Load, error) { return nil, nil, errors.New("broken") }
	call(true)
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, context.Canceled }
	if _, _, err := w.path.Serve(t.Context(), &Call{
		Version: state.VersionKey{App: "default", Function: "f", Number: 1}, Request: &Request{ID: "from elsewhere"},
	}); err == nil {
		t.Fatal("no error")
	}

	versions, _ := w.path.Traffic().Sample(0)
	if len(versions) != 1 {
		t.Fatalf("%d versions", len(versions))
	}
	want := Counts{Calls: 5, Errors: 2, Cold: 1, Forwarded: 1, Resent: 2, Ran: 4}
	if got := versions[0].Counts; got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if n := versions[0].Times.Count(); n != want.Calls {
		t.Errorf("%d times", n)
	}
}

func TestSampleTellsWhatChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.deploy("g")
	call := func(name string) {
		t.Helper()
		resp, err := w.invoke(&Request{Function: name})
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
	}
	traffic := w.path.Traffic()
	names := func(since uint64) (text string, sample uint64) {
		versions, sample := traffic.Sample(since)
		for _, v := range versions {
			text += fmt.Sprintf("%s:%d ", v.Key.Function, v.Calls)
		}
		return text, sample
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("sample tells %q, want %q", got, want)
		}
	}
	call("f")
	call("g")
	text, one := names(0)
	want(text, "f:1 g:1 ")
	call("g")
	text, two := names(one)
	want(text, "g:2 ")
	text, _ = names(two)
	want(text, "")
	text, _ = names(one) // another viewer, who has not heard of it
	want(text, "g:2 ")
	text, _ = names(0)
	want(text, "f:1 g:2 ")
}

// TestTrafficForgetsWhatIsDeleted calls more versions than are deployed: memory and
// metrics stay bounded, and no metric of a living function falls.
func TestTrafficForgetsWhatIsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	registry := prometheus.NewRegistry()
	registry.MustRegister(w.path.Traffic())
	calls := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		sums := map[string]float64{}
		for _, family := range families {
			if family.GetName() != "covey_invoke_calls_total" {
				continue
			}
			for _, m := range family.GetMetric() {
				sums[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
		return sums
	}
	const n = 200
	for i := range n {
		name := fmt.Sprint("g", i)
		w.deploy(name)
		if _, err := w.invoke(&Request{Function: name}); err != nil {
			t.Fatal(err)
		}
		w.apply(&clusterpb.Command{Op: &clusterpb.Command_DeleteFunction{DeleteFunction: &clusterpb.DeleteFunction{App: "default", Name: name}}})
	}
	traffic := w.path.Traffic()
	traffic.mu.Lock()
	if got := len(traffic.versions) + len(traffic.gone); got > n/2 {
		t.Errorf("%d kept", got)
	}
	traffic.mu.Unlock()
	for i := range 3 { // f:1 is deleted once f:2 is live
		if _, err := w.invoke(&Request{Function: "f"}); err != nil {
			t.Fatal(err)
		}
		w.deploy("f")
		w.apply(&clusterpb.Command{Op: &clusterpb.Command_DeleteVersion{DeleteVersion: &clusterpb.DeleteVersion{
			Version: &clusterpb.VersionRef{App: "default", Function: "f", Version: uint64(i + 1)},
		}}})
		if got := calls(); len(got) != 1 || got["default/f"] != float64(i+1) {
			t.Errorf("after %d calls the metrics are %v", i+1, got)
		}
	}
}

// TestCountingAllocatesNothing is not parallel: it measures the whole process.
func TestCountingAllocatesNothing(t *testing.T) {
	r := &run{path: &Path{cfg: Config{Self: self}}, attempts: make([]AttemptRecord, 2)}
	resp := &Response{Node: "node-b", Cold: true}
	var c counters
	if n := testing.AllocsPerRun(100, func() {
		c.entered(r, resp, nil, 3*time.Millisecond)
		c.ranHere(nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkCount is what counting adds to a call.
func BenchmarkCount(b *testing.B) {
	r := &run{path: &Path{cfg: Config{Self: self}}}
	resp := &Response{Node: self}
	var c counters
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.entered(r, resp, nil, 3*time.Millisecond)
			c.ranHere(nil)
		}
	})
}
