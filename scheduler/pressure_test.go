package scheduler

import (
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

func TestShouldTake(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		load Load
		must bool
		want bool
	}{
		{"free slot and processor", Load{Free: 1, Instances: 1, Busy: 1}, false, true},
		{"no load told of", Load{}, false, true},
		{"processors busy", Load{Free: 1, Instances: 1, Busy: 2}, false, false},
		{"instances busy", Load{Instances: 1, InFlight: 1, Busy: 1}, false, false},
		{"nothing here yet", Load{Busy: 1}, false, true},
		{"it must", Load{Instances: 1, InFlight: 1, Busy: 9}, true, true},
	} {
		if got := ShouldTake(c.load, 2, c.must); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// refuse lets a node refuse a call and tell that it is busy.
func refuse(s *Scheduler, d Decision, busy int) {
	s.Sent(d)
	s.Done(d, Outcome{Refused: true, Load: &Load{Instances: 1, InFlight: 1, Busy: busy}}, start)
}

func TestWarmSlotOnABusyNodeIsNotTakenBlindly(t *testing.T) {
	t.Parallel()
	s := newTest(t, 20)
	v, _ := awayFrom(t, s)
	if d := mustPlace(t, s, Query{Version: v, Local: Load{Free: 1, Instances: 1, Busy: 1}}); !d.Local {
		t.Errorf("with a processor free the call left for %s", d.Node)
	}
	s.SetWarm(nodeID(5), v.Hash, true)
	if d := mustPlace(t, s, Query{Version: v, Local: Load{Free: 1, Instances: 1, Busy: 40}}); d.Local {
		t.Error("the call stayed on a node that is twenty times overbooked")
	}
}

func TestAfterRefusalsTheLeastBusyKeepsTheCall(t *testing.T) {
	t.Parallel()
	s := newTest(t, 3)
	v, _ := awayFrom(t, s)
	var tried []state.NodeID
	busy := map[state.NodeID]int{}
	for hops := range 2 {
		d := mustPlace(t, s, Query{Version: v, Hops: hops, Exclude: tried, Local: Load{Busy: 50, Full: true}})
		if d.Local || d.Must {
			t.Fatalf("attempt %d went to %s, must %v", hops, d.Node, d.Must)
		}
		refuse(s, d, 30-20*hops)
		busy[d.Node] = 30 - 20*hops
		tried = append(tried, d.Node)
	}
	d := mustPlace(t, s, Query{Version: v, Hops: 2, Exclude: tried, Local: Load{Busy: 50, Full: true}})
	if !d.Must || busy[d.Node] != 10 {
		t.Errorf("the call went to %s of %v, must %v", d.Node, busy, d.Must)
	}
}

func TestWhatANodeSaidOfItsProcessorsFades(t *testing.T) {
	t.Parallel()
	s := newTest(t, 2)
	v := version("f", 0)
	p := placement{s: s, t: s.table.Load(), q: &Query{Version: v}, now: s.nanos(start)}
	n := s.registry.lookup(nodeID(1))
	if got := p.stretch(n.index, false); got != 1 {
		t.Errorf("an unknown node stretches by %v", got)
	}
	n.busy.Store(11)
	n.heard.Store(p.now)
	if got := p.stretch(n.index, false); got != 6 {
		t.Errorf("11 calls on 2 processors and one more stretch by %v, want 6", got)
	}
	p.now += int64(pressureFor)
	if got := p.stretch(n.index, false); got != 3.25 {
		t.Errorf("later they stretch by %v, want 3.25", got)
	}
	p.now += int64(time.Hour)
	if got := p.stretch(n.index, false); got != 1 {
		t.Errorf("an hour later they stretch by %v", got)
	}
}

func TestSharedRingsPlaceAlike(t *testing.T) {
	t.Parallel()
	rings := new(Rings)
	for self := range 3 {
		cfg := DefaultConfig()
		cfg.Self, cfg.Seed = nodeID(self), 1
		own, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Rings = rings
		shared, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		own.SetNodes(members(30))
		shared.SetNodes(members(30))
		for i := range 50 {
			v := version(string(rune('a'+i)), 0)
			a, b := mustPlace(t, own, Query{Version: v}), mustPlace(t, shared, Query{Version: v})
			if a.Node != b.Node {
				t.Errorf("node %d places %s on %s alone and on %s with a shared ring", self, v.Key, a.Node, b.Node)
			}
		}
	}
}
