package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/scheduler"
)

const self state.NodeID = "node-a"

// world is a node's invocation path over the real state and scheduler, with an
// executor and a peer link that do what the test says.
type world struct {
	t     *testing.T
	store *state.Store
	index state.Index
	path  *Path
	sched *scheduler.Scheduler

	mu       sync.Mutex
	local    func(req *executor.Request) (*executor.Response, error)
	remote   func(node state.NodeID, call *Call) (*Response, *scheduler.Load, error)
	load     executor.Load
	asked    []string // the nodes asked, in order, with the attempt
	draining bool
	behind   *state.View // what this node knows, if it is not the newest
	noQuorum error
}

func (w *world) view() *state.View {
	if w.behind != nil {
		return w.behind
	}
	return w.store.View()
}

func newWorld(t *testing.T, config *clusterpb.VersionConfig) *world {
	t.Helper()
	w := &world{t: t, store: state.New()}
	w.local = func(*executor.Request) (*executor.Response, error) { return answer("local"), nil }
	w.remote = func(node state.NodeID, _ *Call) (*Response, *scheduler.Load, error) {
		return &Response{Node: node, Body: []byte("remote")}, nil, nil
	}
	w.apply(&clusterpb.Command{Op: &clusterpb.Command_FoundCluster{FoundCluster: &clusterpb.FoundCluster{ClusterId: "c", FeatureLevel: state.FeatureLevel}}})
	for _, id := range []state.NodeID{self, "node-b", "node-c"} {
		w.apply(&clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: &clusterpb.Member{
			Id: string(id), Name: string(id), Os: "linux", Arch: "amd64", Cpus: 2, MemoryBytes: 1 << 30, Runtimes: []string{"go"},
			SandboxLevel: 3, FeatureLevel: state.FeatureLevel, PeerAddress: "127.0.0.1:1", ApiAddress: "127.0.0.1:2", GossipAddress: "127.0.0.1:3",
		}}}})
	}
	if config == nil {
		config = &clusterpb.VersionConfig{}
	}
	config.Runtime = "go"
	config.Artifacts = []*clusterpb.Artifact{{Os: "linux", Arch: "amd64", Digest: "sha256:" + strings.Repeat("ab", 32), Size: 10}}
	w.apply(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{App: "default", Name: "f", Config: state.WithDefaults(config)}}})

	sc := scheduler.DefaultConfig()
	sc.Self = self
	sched, err := scheduler.New(sc)
	if err != nil {
		t.Fatal(err)
	}
	var nodes []scheduler.Node
	for _, m := range w.store.View().Members() {
		nodes = append(nodes, scheduler.Node{Member: m, Usable: true})
	}
	sched.SetNodes(nodes)
	w.sched = sched
	w.path, err = NewPath(Config{
		Self: self, View: w.view, Fresh: func(context.Context) (*state.View, error) { return w.store.View(), w.noQuorum }, Placer: sched, Local: w, Remote: w, Records: NewRecords(8), Clock: clock.System{},
		Draining: func() bool { return w.draining },
		Logs:     func(state.FunctionKey, string) []byte { return []byte("log line\n") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) apply(cmd *clusterpb.Command) {
	w.t.Helper()
	w.index++
	cmd.Level, cmd.TimeUnixMs, cmd.Id = 1, 1000, fmt.Sprint(w.index)
	raw, err := state.Encode(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := w.store.Apply(w.index, raw)
	if err == nil {
		err = state.Refused(result)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func answer(body string) *executor.Response {
	return &executor.Response{Body: []byte(body), Steps: executor.Steps{Run: time.Millisecond}}
}

// Invoke implements Local.
func (w *world) Invoke(_ context.Context, _ *executor.Spec, req *executor.Request) (*executor.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf("%s/%d", self, req.Attempt))
	return w.local(req)
}

// Load implements Local.
func (w *world) Load(executor.Key) executor.Load {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.load
}

// Call implements Remote.
func (w *world) Call(_ context.Context, node state.NodeID, call *Call) (*Response, *scheduler.Load, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf("%s/%d", node, call.Attempt))
	return w.remote(node, call)
}

func (w *world) invoke(req *Request) (*Response, error) {
	w.t.Helper()
	if req.Function == "" {
		req.Function = "f"
	}
	resp, err := w.path.Invoke(w.t.Context(), req)
	w.t.Cleanup(resp.Release)
	return resp, err
}

func TestWarmCallRunsHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	resp, err := w.invoke(&Request{ID: "r1", WantLogs: true})
	if err != nil {
		t.Fatal(err)
	}
	if string(resp.Body) != "local" || resp.Node != self || resp.Cold || resp.Attempts != 1 || string(resp.LogTail) != "log line\n" {
		t.Errorf("unexpected response %+v", resp)
	}
	rec, ok := w.path.cfg.Records.Find("r1")
	if !ok || rec.Outcome != "ok" || len(rec.Attempts) != 1 || rec.Attempts[0].Reason != "warm" || rec.Version != 1 {
		t.Errorf("record %+v, %v", rec, ok)
	}
	var names []string
	for _, s := range resp.Steps {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"place", "run"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedCallIsSentElsewhereAsTheSameAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, executor.ErrQueueFull }
	refusals := 0
	w.remote = func(node state.NodeID, _ *Call) (*Response, *scheduler.Load, error) {
		if refusals++; refusals == 1 {
			return nil, &scheduler.Load{Full: true}, executor.ErrQueueFull
		}
		return &Response{Node: node}, nil, nil
	}
	resp, err := w.invoke(&Request{})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.asked) != 3 || w.asked[0] != "node-a/1" || resp.Attempts != 1 {
		t.Errorf("asked %v, attempts %d", w.asked, resp.Attempts)
	}
	seen := map[string]bool{}
	for _, a := range w.asked {
		if seen[a] || !strings.HasSuffix(a, "/1") {
			t.Errorf("asked %v: each node once, always as attempt 1", w.asked)
		}
		seen[a] = true
	}
}

func TestFullClusterIsBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, executor.ErrQueueFull }
	w.remote = func(state.NodeID, *Call) (*Response, *scheduler.Load, error) {
		return nil, &scheduler.Load{Full: true}, executor.ErrQueueFull
	}
	_, err := w.invoke(&Request{ID: "r"})
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || busy.RetryAfter <= 0 {
		t.Fatalf("got %v, want a BusyError with advice", err)
	}
	if len(w.asked) > maxSends {
		t.Errorf("asked %d times", len(w.asked))
	}
	if rec, _ := w.path.cfg.Records.Find("r"); rec.Outcome != "error" || len(rec.Attempts) != len(w.asked) {
		t.Errorf("record %+v", rec)
	}
}

func TestCallWaitsHereWhenNoNodeHasMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.local = func(req *executor.Request) (*executor.Response, error) {
		if req.Wait {
			return answer("waited"), nil
		}
		return nil, executor.ErrNoCapacity
	}
	w.remote = func(state.NodeID, *Call) (*Response, *scheduler.Load, error) {
		return nil, &scheduler.Load{}, executor.ErrNoCapacity
	}
	resp, err := w.invoke(&Request{ID: "r"})
	if err != nil || string(resp.Body) != "waited" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	rec, _ := w.path.cfg.Records.Find("r")
	last := rec.Attempts[len(rec.Attempts)-1]
	if last.Reason != "wait" || last.Node != self || len(rec.Attempts) < 2 {
		t.Errorf("attempts %+v: want the others asked before this node waits", rec.Attempts)
	}
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, executor.ErrNoCapacity }
	if _, err := w.invoke(&Request{}); !errors.As(err, new(*BusyError)) {
		t.Errorf("in vain: got %v", err)
	}
}

// errLost is a link that broke after the call's last byte.
var errLost = errors.New("link broke")

func TestUnknownOutcomeIsRepeatedOnlyIfIdempotent(t *testing.T) {
	t.Parallel()
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprintf("idempotent=%v", idempotent), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &clusterpb.VersionConfig{Idempotent: idempotent})
			w.load = executor.Load{Instances: 1, Free: 1}
			failures := 1
			lose := func() error {
				if failures--; failures >= 0 {
					return errLost
				}
				return nil
			}
			w.local = func(*executor.Request) (*executor.Response, error) {
				if err := lose(); err != nil {
					return nil, err
				}
				return answer("again"), nil
			}
			resp, err := w.invoke(&Request{})
			if !idempotent {
				unknown, ok := errors.AsType[*UnknownOutcomeError](err)
				if !ok || !errors.Is(unknown, errLost) || len(w.asked) != 1 {
					t.Fatalf("got %v after asking %v, want an unknown outcome after one", err, w.asked)
				}
				return
			}
			if err != nil || resp.Attempts != 2 || len(w.asked) != 2 || !strings.HasSuffix(w.asked[1], "/2") {
				t.Errorf("got %v after asking %v, want the second attempt to answer", err, w.asked)
			}
		})
	}
}

func TestPoisonousEventStopsBeingRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &clusterpb.VersionConfig{Idempotent: true})
	w.local = func(*executor.Request) (*executor.Response, error) { return nil, errLost }
	w.remote = func(state.NodeID, *Call) (*Response, *scheduler.Load, error) { return nil, nil, errLost }
	_, err := w.invoke(&Request{})
	if _, ok := errors.AsType[*UnknownOutcomeError](err); !ok || len(w.asked) != maxUnknown+1 {
		t.Errorf("got %v after asking %v, want an unknown outcome after %d", err, w.asked, maxUnknown+1)
	}
}

func TestFunctionErrorIsAnAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	for _, c := range []struct {
		err  error
		want plugins.FunctionError
	}{
		{&plugins.FunctionError{Type: "Bad", Message: "input"}, plugins.FunctionError{Type: "Bad", Message: "input"}},
		{&plugins.ExitError{Cause: io.EOF}, plugins.FunctionError{Type: "Runtime.ExitError", Message: (&plugins.ExitError{Cause: io.EOF}).Error(), Unhandled: true}},
	} {
		w.local = func(*executor.Request) (*executor.Response, error) { return answer(""), c.err }
		resp, err := w.invoke(&Request{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&c.want, resp.FunctionError); diff != "" {
			t.Error(diff)
		}
	}
}

func TestFinalErrorsAreNotRepeated(t *testing.T) {
	t.Parallel()
	key := executor.Key{App: "default", Function: "f", Version: 1}
	for _, c := range []struct {
		name string
		err  error
		is   func(error) bool
	}{
		{"timeout", executor.ErrTimeout, func(err error) bool { return errors.Is(err, ErrTimeout) }},
		{"init", &executor.StartError{Key: key, Reason: "bad config", Log: "traceback", Err: &plugins.InitError{}}, isStart("traceback")},
		{"crash loop", &executor.CrashLoopError{Key: key, Reason: "segfault"}, isStart("segfault")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &clusterpb.VersionConfig{Idempotent: true})
			w.load = executor.Load{Instances: 1, Free: 1}
			w.local = func(*executor.Request) (*executor.Response, error) { return nil, c.err }
			_, err := w.invoke(&Request{})
			if !c.is(err) || len(w.asked) != 1 {
				t.Errorf("got %v after asking %v", err, w.asked)
			}
		})
	}
}

func isStart(text string) func(error) bool {
	return func(err error) bool {
		start, ok := errors.AsType[*StartError](err)
		return ok && strings.Contains(start.Reason, text)
	}
}

func TestNoOtherNodeIsAskedAfterTheDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	deadline := time.Now().Add(20 * time.Millisecond)
	w.local = func(req *executor.Request) (*executor.Response, error) {
		if !req.Deadline.Equal(deadline) {
			t.Errorf("the executor got the deadline %v, want %v", req.Deadline, deadline)
		}
		<-time.After(time.Until(deadline))
		return nil, fmt.Errorf("waited: %w: %w", context.DeadlineExceeded, plugins.ErrNotStarted)
	}
	_, err := w.invoke(&Request{Deadline: deadline})
	if !errors.Is(err, ErrTimeout) || len(w.asked) != 1 {
		t.Errorf("got %v after asking %v", err, w.asked)
	}
}

func TestRefusalsBeforePlacement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if _, err := w.invoke(&Request{Function: "nope"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown function: %v", err)
	}
	if _, err := w.invoke(&Request{Qualifier: "7"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown version: %v", err)
	}
	if _, err := w.invoke(&Request{Depth: MaxDepth + 1}); !errors.Is(err, ErrTooDeep) {
		t.Errorf("too deep: %v", err)
	}
	w.draining = true
	if _, err := w.invoke(&Request{}); !errors.Is(err, ErrDraining) {
		t.Errorf("draining: %v", err)
	}
	if len(w.asked) != 0 {
		t.Errorf("asked %v", w.asked)
	}
}

func TestNameDeployedElsewhereAMomentAgoIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	w.behind = state.New().View()
	if _, err := w.invoke(&Request{}); err != nil {
		t.Errorf("with a quorum: %v", err)
	}
	w.noQuorum = errors.New("no leader")
	if _, err := w.invoke(&Request{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a quorum: %v, want what this node knows", err)
	}
}

func TestServeRefusesWhatThisNodeDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, _, err := w.path.Serve(t.Context(), &Call{Version: state.VersionKey{App: "default", Function: "f", Number: 9}, Request: &Request{}})
	if !errors.Is(err, plugins.ErrNotStarted) {
		t.Errorf("got %v, want a refusal that may be sent elsewhere", err)
	}
}

func TestDepthIsKnownWhileACallRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	var during uint8
	w.local = func(req *executor.Request) (*executor.Response, error) {
		during = w.path.Depth(req.ID)
		return answer(""), nil
	}
	if _, err := w.invoke(&Request{ID: "deep", Depth: 3}); err != nil {
		t.Fatal(err)
	}
	if after := w.path.Depth("deep"); during != 3 || after != 0 {
		t.Errorf("depth %d during the call and %d after it, want 3 and 0", during, after)
	}
}

func TestAppLimitsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	w.apply(&clusterpb.Command{Op: &clusterpb.Command_PutLimits{PutLimits: &clusterpb.PutLimits{App: "default", Limits: &clusterpb.Limits{Concurrency: 1}}}})
	first, err := w.path.Invoke(t.Context(), &Request{Function: "f"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.invoke(&Request{}); err == nil {
		t.Error("a second call ran at the same time")
	}
	first.Release()
	if _, err := w.invoke(&Request{}); err != nil {
		t.Errorf("after the first call's release: %v", err)
	}
}

func TestRecordsForgetTheOldest(t *testing.T) {
	t.Parallel()
	rs := NewRecords(2)
	for _, id := range []string{"a", "b", "b", "c"} {
		rs.Add(Record{RequestID: id})
	}
	for id, want := range map[string]bool{"a": false, "b": true, "c": true} {
		if _, ok := rs.Find(id); ok != want {
			t.Errorf("found %s: %v", id, ok)
		}
	}
}

func BenchmarkInvokeLocal(b *testing.B) {
	w := newWorld(&testing.T{}, nil)
	w.load = executor.Load{Instances: 1, Free: 1}
	resp := answer("ok")
	w.local = func(*executor.Request) (*executor.Response, error) { return resp, nil }
	ctx := context.Background()
	req := &Request{ID: "r", App: "default", Function: "f"}
	b.ReportAllocs()
	for b.Loop() {
		w.asked = w.asked[:0]
		r, err := w.path.Invoke(ctx, req)
		if err != nil {
			b.Fatal(err)
		}
		r.Release()
	}
}
