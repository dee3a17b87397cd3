package scheduler

import (
	"errors"
	"testing"

	"github.com/covey-dev/covey/cluster/state"
)

// keyed is a query with a key, for a version that wants affinity.
func keyed(key uint64, exclude ...state.NodeID) Query {
	v := version("f", 0)
	v.Config.Affinity = true
	return Query{Version: v, Key: key, Exclude: exclude, Hops: len(exclude)}
}

// homes returns where each of many keys goes.
func homes(t *testing.T, s *Scheduler, keys int) map[uint64]state.NodeID {
	t.Helper()
	out := map[uint64]state.NodeID{}
	for k := range uint64(keys) {
		d := mustPlace(t, s, keyed(k+1))
		if d.Reason != ReasonKey {
			t.Fatalf("key %d: %s", k+1, d.Reason)
		}
		out[k+1] = d.Node
	}
	return out
}

func TestCallsWithAKeyKeepTheirNode(t *testing.T) {
	t.Parallel()
	const keys = 2000
	s := newTest(t, 10)
	before := homes(t, s, keys)
	count := map[state.NodeID]int{}
	for _, n := range before {
		count[n]++
	}
	for i := range 10 {
		if got := count[nodeID(i)]; got < keys/10/3 || got > keys/10*3 {
			t.Errorf("%s has %d of %d keys", nodeID(i), got, keys)
		}
	}
	// What is warm, free or busy changes nothing, and neither does another node's view.
	v := keyed(1).Version
	s.SetWarm(nodeID(3), v.Hash, true)
	s.Idle(nodeID(4), v.Hash, start)
	cfg := DefaultConfig()
	cfg.Self = nodeID(7)
	other, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	other.SetNodes(members(10))
	for key, home := range before {
		q := keyed(key)
		q.Local = Load{Instances: 1, Free: 1}
		if d := mustPlace(t, s, q); d.Node != home {
			t.Fatalf("key %d moved from %s to %s", key, home, d.Node)
		}
		if d := mustPlace(t, other, keyed(key)); d.Node != home {
			t.Fatalf("key %d is at %s on one node and at %s on another", key, home, d.Node)
		}
	}
}

func TestOnlyTheKeysOfALostNodeMove(t *testing.T) {
	t.Parallel()
	const keys = 500
	s := newTest(t, 10)
	before := homes(t, s, keys)
	lost := nodeID(6)
	nodes := members(10)
	nodes[6].Usable = false
	s.SetNodes(nodes)
	for key, home := range homes(t, s, keys) {
		if was := before[key]; home == lost || (was != lost && home != was) {
			t.Errorf("key %d moved from %s to %s", key, was, home)
		}
	}
	s.SetNodes(members(10))
	for key, home := range homes(t, s, keys) {
		if home != before[key] {
			t.Errorf("key %d did not come back to %s", key, before[key])
		}
	}
}

func TestRefusedCallWithAKeyGoesToTheNextNode(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	for key := range uint64(100) {
		home := mustPlace(t, s, keyed(key+1)).Node
		second := mustPlace(t, s, keyed(key+1, home))
		if second.Node == home || second.Reason != ReasonKey {
			t.Fatalf("key %d went to %s (%s)", key+1, second.Node, second.Reason)
		}
		if again := mustPlace(t, s, keyed(key+1, home)); again.Node != second.Node {
			t.Fatalf("key %d went to %s and to %s", key+1, second.Node, again.Node)
		}
	}
	// After the last forward it stays, as any call does.
	q := keyed(1, nodeID(1), nodeID(2))
	if d := mustPlace(t, s, q); !d.Local || d.Reason != ReasonLastHop {
		t.Errorf("got %+v", d)
	}
	q.Exclude = append(q.Exclude, nodeID(0))
	if _, err := s.Place(&q); !errors.Is(err, ErrHops) {
		t.Errorf("got %v", err)
	}
}

func TestKeyCountsOnlyWithAffinity(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	v, _ := awayFrom(t, s)
	d := mustPlace(t, s, Query{Version: v, Key: 7, Local: Load{Instances: 1, Free: 1}})
	if !d.Local || d.Reason != ReasonWarm {
		t.Errorf("got %+v", d)
	}
}

func TestKeysStayAmongTheNodesThatMayRunTheVersion(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	v := version("f", 2)
	v.Config.Affinity = true
	a := assign(v, 2, 5)
	seen := map[state.NodeID]bool{}
	for key := range uint64(200) {
		seen[mustPlace(t, s, Query{Version: v, Assignment: a, Key: key + 1}).Node] = true
	}
	if len(seen) != 2 || !seen[nodeID(2)] || !seen[nodeID(5)] {
		t.Errorf("keys went to %v", seen)
	}
}
