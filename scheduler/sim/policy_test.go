package sim

import (
	"testing"
	"time"

	"github.com/covey-dev/covey/scheduler/sim/workload"
)

const (
	tinyRun  = 100 * time.Millisecond
	tinyCold = 40 * time.Millisecond
)

// tiny is calls of one function at the given times, on nodes of one processor with
// gossip that is never old.
func tiny(t *testing.T, policy string, nodes int, at ...time.Duration) *Report {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Nodes, cfg.CPUs, cfg.Entries, cfg.Staleness, cfg.Warmup = nodes, 1, 1, 0, 0
	cfg.Policy = policyNamed(t, policy)
	cfg.Workload = workload.Workload{
		Length:    10 * time.Second,
		Functions: []workload.Function{{Mean: tinyRun, Cold: tinyCold, Memory: 1 << 20, Concurrency: 1}},
		Calls: func(yield func(workload.Call) bool) {
			for _, a := range at {
				if !yield(workload.Call{At: a, Run: tinyRun}) {
					return
				}
			}
		},
	}
	r := run(t, cfg)
	if r.Calls != len(at) || r.Lost != 0 {
		t.Fatalf("%d of %d calls answered, %d lost", r.Calls, len(at), r.Lost)
	}
	return r
}

func TestCallsOneAfterTheOtherFindTheWarmInstance(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"covey", "home node", "bounded hashing", "pull", "central (bound)"} {
		// The second call comes when the first is long done: one start serves both.
		if r := tiny(t, policy, 4, 0, time.Second); r.Starts*10 != 1 || r.Cold != 0.5 {
			t.Errorf("%s: %v starts, %v cold, want 1 and half", policy, r.Starts*10, r.Cold)
		}
	}
	// Going round, each node is cold.
	if r := tiny(t, "round robin", 4, 0, time.Second, 2*time.Second, 3*time.Second); r.Starts*10 != 4 {
		t.Errorf("round robin: %v starts, want 4", r.Starts*10)
	}
}

func TestCallsAtOnceGoToDifferentNodes(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"round robin", "least loaded", "join idle queue", "central (bound)"} {
		// Each of two nodes starts an instance and runs one call: nothing is shared.
		r := tiny(t, policy, 2, 0, time.Millisecond)
		want := tinyCold + tinyRun
		if r.Starts*10 != 2 || r.MeanResponse < want || r.MeanResponse > want+time.Millisecond {
			t.Errorf("%s: %v starts, mean response %v, want 2 and %v", policy, r.Starts*10, r.MeanResponse, want)
		}
	}
}

func TestTwoChoicesAvoidsTheBusyNode(t *testing.T) {
	t.Parallel()
	// Of six calls at once on two nodes it sends at most by chance (both choices the
	// same) more than half to one; random choice has no such bound. Both start two.
	two, random := tiny(t, "two choices", 2, 0, 1, 2, 3, 4, 5), tiny(t, "random", 2, 0, 1, 2, 3, 4, 5)
	if two.MeanResponse > random.MeanResponse {
		t.Errorf("two choices took %v, random %v", two.MeanResponse, random.MeanResponse)
	}
}

func TestLateBindingWaitsForTheFirstFreeNode(t *testing.T) {
	t.Parallel()
	// Two calls occupy both nodes; the third is bound when the first of them is done,
	// and finds its instance warm: 150 ms, 151 ms, 250 ms less the two milliseconds.
	r := tiny(t, "late binding", 2, 0, time.Millisecond, 2*time.Millisecond)
	if r.Cold < 0.6 || r.Cold > 0.7 {
		t.Errorf("cold %v, want two of three", r.Cold)
	}
	if r.Messages < 4 {
		t.Errorf("%v messages per call, want two probes, a fetch and its answer", r.Messages)
	}
}

func TestBoundIsNotBeatenWhenNothingIsShort(t *testing.T) {
	t.Parallel()
	bound := tiny(t, "central (bound)", 3, 0, time.Second, time.Second+1)
	for _, p := range Policies() {
		if r := tiny(t, p.Name, 3, 0, time.Second, time.Second+1); r.MeanResponse < bound.MeanResponse {
			t.Errorf("%s took %v, the bound %v", p.Name, r.MeanResponse, bound.MeanResponse)
		}
	}
}
