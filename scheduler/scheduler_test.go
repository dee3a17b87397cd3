package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

func TestConfigReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Forwards: -1, Noise: 2})
	for _, field := range []string{"Self", "Forwards", "Epsilon", "Noise", "TokenTTL", "FunctionsMax"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is not reported in: %v", field, err)
		}
	}
}

func TestRemovedNodeIsNotUsed(t *testing.T) {
	t.Parallel()
	s := newTest(t, 5)
	v, home := awayFrom(t, s)
	var rest []Node
	for _, n := range members(5) {
		if n.Member.ID != home {
			rest = append(rest, n)
		}
	}
	s.SetWarm(home, v.Hash, true)
	s.SetNodes(rest)
	s.SetWarm("gossip-came-first", v.Hash, true)
	for range 50 {
		if d := mustPlace(t, s, Query{Version: v}); d.Node == home || d.Node == "gossip-came-first" {
			t.Fatalf("%s is no member", d.Node)
		}
	}
}

func TestNewNodeTakesFewVersionsOver(t *testing.T) {
	t.Parallel()
	const nodes, versions = 20, 300
	before, after := newTest(t, nodes), newTest(t, nodes+1)
	moved := 0
	for i := range versions {
		v := version(fmt.Sprintf("f%d", i), 0)
		a, b := mustPlace(t, before, Query{Version: v}), mustPlace(t, after, Query{Version: v})
		if a.Node != b.Node {
			moved++
			if b.Node != nodeID(nodes) {
				t.Errorf("%s moved from %s to %s, which is not the new node", v.Key, a.Node, b.Node)
			}
		}
	}
	if moved == 0 || moved > versions/5 {
		t.Errorf("%d of %d versions moved for one node more", moved, versions)
	}
}

func TestHomesAreSpread(t *testing.T) {
	t.Parallel()
	s := newTest(t, 20)
	homes := map[state.NodeID]int{}
	for i := range 2000 {
		homes[mustPlace(t, s, Query{Version: version(fmt.Sprintf("f%d", i), 0)}).Node]++
	}
	for node, n := range homes {
		if n > 250 {
			t.Errorf("%s is home to %d of 2000 versions", node, n)
		}
	}
	if len(homes) != 20 {
		t.Errorf("%d of 20 nodes are a home", len(homes))
	}
}

func TestEstimatesLearn(t *testing.T) {
	t.Parallel()
	s := newTest(t, 1)
	v := version("f", 0)
	for range 100 {
		d := mustPlace(t, s, Query{Version: v})
		s.Sent(d)
		s.Done(d, Outcome{Took: 20 * time.Millisecond, Cold: 3 * time.Millisecond}, start)
	}
	took, cold := s.Estimates(v.Hash)
	if took != 20*time.Millisecond || cold != 3*time.Millisecond {
		t.Errorf("learned %v and %v", took, cold)
	}
}

func TestUnusedVersionsAreForgotten(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Self, cfg.FunctionsMax = nodeID(0), 4*shardCount
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.SetNodes(members(2))
	held := mustPlace(t, s, Query{Version: version("held", 0)})
	s.Sent(held)
	for i := range 5000 {
		mustPlace(t, s, Query{Version: version(fmt.Sprintf("f%d", i), 0), Now: start.Add(time.Duration(i))})
	}
	total := 0
	for i := range s.shards {
		total += len(s.shards[i].functions)
	}
	if total > cfg.FunctionsMax {
		t.Errorf("%d versions are remembered, want at most %d", total, cfg.FunctionsMax)
	}
	if s.function(version("held", 0).Hash) != held.function {
		t.Error("a version with a call under way was forgotten")
	}
	s.Done(held, Outcome{}, start)
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := newTest(t, 8)
	var users sync.WaitGroup
	for u := range 4 {
		users.Go(func() {
			for i := range 500 {
				v := version(fmt.Sprintf("f%d", i%5), 0)
				d, err := s.Place(&Query{Version: v, Now: start.Add(time.Duration(i) * time.Millisecond)})
				if err != nil && !errors.Is(err, ErrNowhere) {
					t.Error(err)
					return
				}
				if err == nil {
					s.Sent(d)
					s.Done(d, Outcome{Took: time.Millisecond, Load: &Load{Idle: 1}}, start)
				}
				s.SetWarm(nodeID(i%8), v.Hash, i%3 == 0)
				s.SetLink(nodeID(1+i%7), i%2 == 0)
				if u == 0 {
					s.SetNodes(members(4 + i%5))
				}
			}
		})
	}
	users.Wait()
}

// BenchmarkPlace measures a decision that goes to another node, at 1,000 nodes
// and 10,000 versions of which each is warm on eight.
func BenchmarkPlace(b *testing.B) {
	const nodes, versions = 1000, 10_000
	s := newTest(b, nodes)
	all := make([]*state.Version, versions)
	for i := range all {
		all[i] = version(fmt.Sprintf("f%d", i), 0)
		for j := range 8 {
			s.SetWarm(nodeID(1+(i*31+j*7)%(nodes-1)), all[i].Hash, true)
		}
		d := mustPlace(b, s, Query{Version: all[i]})
		s.Sent(d)
		s.Done(d, Outcome{Took: time.Millisecond, Load: &Load{InFlight: 2, Instances: 2}}, start)
	}
	b.ReportAllocs()
	q := Query{Now: start}
	for i := 0; b.Loop(); i++ {
		q.Version = all[(i*7919)%versions]
		q.Now = start.Add(time.Duration(i) * time.Microsecond)
		if _, err := s.Place(&q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlaceByKey is Place for versions with affinity that all nodes may run, or
// only some.
func BenchmarkPlaceByKey(b *testing.B) {
	for _, runners := range []int{1000, 4} {
		b.Run(fmt.Sprint("runners=", runners), func(b *testing.B) {
			s := newTest(b, 1000)
			v, q := version("f", 0), Query{Now: start}
			if runners < 1000 {
				v = version("f", uint32(runners))
				q.Assignment = assign(v, 10, 300, 301, 900)
			}
			v.Config.Affinity = true
			q.Version = v
			b.ReportAllocs()
			for i := uint64(1); b.Loop(); i++ {
				q.Key = i * 0x9e3779b97f4a7c15
				if _, err := s.Place(&q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCallCycle is Place, Sent and Done on one version from all cores.
func BenchmarkCallCycle(b *testing.B) {
	s := newTest(b, 1000)
	v := version("f", 0)
	load := &Load{InFlight: 2, Instances: 2}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		q := Query{Version: v, Now: start}
		for pb.Next() {
			d, err := s.Place(&q)
			if err != nil {
				b.Error(err)
				return
			}
			s.Sent(d)
			s.Done(d, Outcome{Took: time.Millisecond, Load: load}, start)
		}
	})
}
