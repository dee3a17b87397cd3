package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// start is when every test begins.
var start = time.Now()

func nodeID(i int) state.NodeID { return state.NodeID(fmt.Sprintf("node-%04d", i)) }

func member(i int) *state.Member {
	return &state.Member{ID: nodeID(i), OS: "linux", Arch: "amd64", CPUs: 2, Runtimes: []string{"go", "python"}, SandboxLevel: 2}
}

func members(n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Member: member(i), Usable: true}
	}
	return nodes
}

// newTest returns the scheduler of node 0 among n nodes.
func newTest(t testing.TB, n int) *Scheduler {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Self = nodeID(0)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.SetNodes(members(n))
	return s
}

func version(name string, max uint32) *state.Version {
	key := state.VersionKey{App: "default", Function: state.FunctionName(name), Number: 1}
	return &state.Version{Key: key, Hash: key.Hash(), Config: &clusterpb.VersionConfig{
		Runtime: "go", Concurrency: 1, Max: max,
		Artifacts: []*clusterpb.Artifact{{Os: "linux", Arch: "amd64"}},
	}}
}

// assign gives each of the nodes one instance of the version.
func assign(v *state.Version, nodes ...int) *state.Assignment {
	a := &state.Assignment{Version: v.Key}
	for _, i := range nodes {
		a.Places = append(a.Places, state.Place{Node: nodeID(i), Max: 1, Queue: 1})
	}
	return a
}

func mustPlace(t testing.TB, s *Scheduler, q Query) Decision {
	t.Helper()
	if q.Now.IsZero() {
		q.Now = start
	}
	d, err := s.Place(&q)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// awayFrom returns a version whose first node on the ring is not node 0.
func awayFrom(t testing.TB, s *Scheduler) (*state.Version, state.NodeID) {
	t.Helper()
	for i := range 100 {
		v := version(fmt.Sprintf("f%d", i), 0)
		if d := mustPlace(t, s, Query{Version: v}); !d.Local {
			return v, d.Node
		}
	}
	t.Fatal("every version lives here")
	return nil, ""
}
