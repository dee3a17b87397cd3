package scheduler

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/state"
)

func TestFreeWarmSlotHereGoesFirst(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	v, _ := awayFrom(t, s)
	d := mustPlace(t, s, Query{Version: v, Local: Load{Instances: 1, Free: 1}})
	if !d.Local || d.Reason != ReasonWarm {
		t.Errorf("got %+v, want this node", d)
	}
}

func TestAllNodesAgreeOnTheHome(t *testing.T) {
	t.Parallel()
	first := newTest(t, 50)
	cfg := DefaultConfig()
	cfg.Self = nodeID(49)
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nodes := members(50)
	nodes[0], nodes[30] = nodes[30], nodes[0] // the order of arrival must not matter
	second.SetNodes(nodes)
	for i := range 20 {
		v := version(string(rune('a'+i)), 0)
		a, b := mustPlace(t, first, Query{Version: v}), mustPlace(t, second, Query{Version: v})
		if a.Node != b.Node {
			t.Errorf("%s: %s and %s", v.Key, a.Node, b.Node)
		}
	}
}

func TestIdleTokenGoesBeforeTheHome(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	v, home := awayFrom(t, s)
	other := nodeID(3)
	if home == other {
		other = nodeID(4)
	}
	s.Idle(other, v.Hash, start)
	if d := mustPlace(t, s, Query{Version: v}); d.Node != other || d.Reason != ReasonIdle {
		t.Errorf("got %s (%s), want %s", d.Node, d.Reason, other)
	}
	if d := mustPlace(t, s, Query{Version: v}); d.Node != home {
		t.Errorf("the token was used twice: %s", d.Node)
	}
	s.Idle(other, v.Hash, start)
	if d := mustPlace(t, s, Query{Version: v, Now: start.Add(time.Minute)}); d.Node != home {
		t.Errorf("a token of a minute ago was believed: %s", d.Node)
	}
	for range 2 * tokenMax {
		s.Idle(other, v.Hash, start)
	}
	s.SetLink(other, false)
	if d := mustPlace(t, s, Query{Version: v}); d.Node != home {
		t.Errorf("a token sent the call over a broken link: %s", d.Node)
	}
}

func TestWarmNodeIsPreferredToAColdHome(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	v, home := awayFrom(t, s)
	warm := nodeID(5)
	if warm == home {
		warm = nodeID(6)
	}
	s.SetWarm(warm, v.Hash, true)
	counts := map[state.NodeID]int{}
	for range 400 {
		counts[mustPlace(t, s, Query{Version: v}).Node]++
	}
	// Two draws from two nodes miss the warm one a quarter of the time.
	if counts[warm] < 250 {
		t.Errorf("the warm node got %d of 400 calls: %v", counts[warm], counts)
	}
	s.SetWarm(warm, v.Hash, false)
	if d := mustPlace(t, s, Query{Version: v}); d.Node != home {
		t.Errorf("a node that is not warm any more got the call: %s", d.Node)
	}
}

func TestLoadSpreadsOverMoreNodes(t *testing.T) {
	t.Parallel()
	s := newTest(t, 20)
	v, home := awayFrom(t, s)
	if d := mustPlace(t, s, Query{Version: v}); d.Node != home {
		t.Fatalf("first call: %s, want %s", d.Node, home)
	}
	seen := map[state.NodeID]int{}
	for range 40 {
		d := mustPlace(t, s, Query{Version: v})
		s.Sent(d)
		seen[d.Node]++
	}
	if len(seen) < 10 {
		t.Errorf("40 calls under way are on %d nodes: %v", len(seen), seen)
	}
	for node, n := range seen {
		if n > 8 {
			t.Errorf("%s has %d of 40 calls", node, n)
		}
	}
}

func TestLessLoadedOfTwoIsChosen(t *testing.T) {
	t.Parallel()
	s := newTest(t, 3)
	v := version("pair", 4)
	a := assign(v, 1, 2)
	busy := Outcome{Load: &Load{InFlight: 1, Queued: 5, Instances: 1}, Took: time.Second}
	for range 40 { // until node 1 has been chosen once, to report from there
		d := mustPlace(t, s, Query{Version: v, Assignment: a})
		s.Sent(d)
		if d.Node == nodeID(1) {
			s.Done(d, busy, start)
			break
		}
		s.Done(d, Outcome{}, start)
	}
	s.SetWarm(nodeID(1), v.Hash, true)
	s.SetWarm(nodeID(2), v.Hash, true)
	counts := map[state.NodeID]int{}
	for range 200 {
		counts[mustPlace(t, s, Query{Version: v, Assignment: a}).Node]++
	}
	if counts[nodeID(2)] < 120 {
		t.Errorf("the idle node got %d of 200: %v", counts[nodeID(2)], counts)
	}
	// A report of long ago says nothing.
	late := start.Add(time.Hour)
	counts = map[state.NodeID]int{}
	for range 200 {
		counts[mustPlace(t, s, Query{Version: v, Assignment: a, Now: late}).Node]++
	}
	if n := counts[nodeID(1)]; n < 60 || n > 140 {
		t.Errorf("after an hour node 1 gets %d of 200", n)
	}
}

func TestRefusalSendsTheNextCallElsewhere(t *testing.T) {
	t.Parallel()
	s := newTest(t, 3)
	v := version("full", 2)
	a := assign(v, 1, 2)
	d := mustPlace(t, s, Query{Version: v, Assignment: a})
	s.Sent(d)
	s.Done(d, Outcome{Refused: true, Load: &Load{Full: true, Instances: 1}}, start)
	for range 20 {
		if got := mustPlace(t, s, Query{Version: v, Assignment: a}); got.Node == d.Node {
			t.Fatal("the full node was chosen at once again")
		}
	}
	seen := map[state.NodeID]bool{}
	for range 50 {
		seen[mustPlace(t, s, Query{Version: v, Assignment: a, Now: start.Add(time.Second)}).Node] = true
	}
	if !seen[d.Node] {
		t.Error("the node was taken for full for ever")
	}
}

func TestEveryNodeWithRoomIsFoundInTwoForwards(t *testing.T) {
	t.Parallel()
	s := newTest(t, 3)
	v := version("f", 3)
	a := assign(v, 0, 1, 2)
	full := Load{Instances: 1, InFlight: 1, Queued: 1, Full: true}
	q := Query{Version: v, Assignment: a, Local: full, Now: start}
	seen := map[state.NodeID]bool{}
	for q.Hops = 0; q.Hops < 2; q.Hops++ {
		d := mustPlace(t, s, q)
		if d.Local || seen[d.Node] {
			t.Fatalf("hop %d goes to %s again", q.Hops, d.Node)
		}
		seen[d.Node] = true
		q.Exclude = append(q.Exclude, d.Node)
	}
	if d := mustPlace(t, s, q); !d.Local || d.Reason != ReasonLastHop {
		t.Errorf("after two forwards: %+v, want this node's own answer", d)
	}
}

func TestNodeWithoutShareOnlyForwards(t *testing.T) {
	t.Parallel()
	s := newTest(t, 4)
	v := version("elsewhere", 2)
	a := assign(v, 2, 3)
	for hops := range 2 {
		d := mustPlace(t, s, Query{Version: v, Assignment: a, Hops: hops, Local: Load{Free: 1}})
		if d.Local {
			t.Fatalf("hop %d ran here", hops)
		}
	}
	if _, err := s.Place(&Query{Version: v, Assignment: a, Hops: 2, Now: start}); !errors.Is(err, ErrHops) {
		t.Errorf("after two forwards: %v, want ErrHops", err)
	}
	s.SetLink(nodeID(2), false)
	s.SetLink(nodeID(3), false)
	if _, err := s.Place(&Query{Version: v, Assignment: a, Now: start}); !errors.Is(err, ErrNowhere) {
		t.Errorf("with both links cut: %v, want ErrNowhere", err)
	}
	s.SetLink(nodeID(3), true)
	if d := mustPlace(t, s, Query{Version: v, Assignment: a}); d.Node != nodeID(3) {
		t.Errorf("link back: %s", d.Node)
	}
}

func TestVersionWithMaxAndNoAssignmentRunsNowhere(t *testing.T) {
	t.Parallel()
	s := newTest(t, 4)
	if _, err := s.Place(&Query{Version: version("unplanned", 2), Now: start}); !errors.Is(err, ErrNowhere) {
		t.Errorf("got %v, want ErrNowhere", err)
	}
}

func TestOnlyNodesWithTheLabelsRunAVersion(t *testing.T) {
	t.Parallel()
	s := newTest(t, 4)
	nodes := members(4)
	label := func(i int, disk string) {
		m := member(i)
		m.Labels = map[string]string{"disk": disk, "rack": "1"}
		nodes[i].Member = m
	}
	label(2, "ssd")
	label(3, "hdd")
	s.SetNodes(nodes)
	v := version("f", 0)
	v.Config.Place = map[string]string{"disk": "ssd"}
	for range 20 {
		if d := mustPlace(t, s, Query{Version: v}); d.Node != nodeID(2) {
			t.Fatalf("placed on %s", d.Node)
		}
	}
	// The labels move to another node: so does the work.
	label(2, "hdd")
	label(3, "ssd")
	s.SetNodes(nodes)
	if d := mustPlace(t, s, Query{Version: v}); d.Node != nodeID(3) {
		t.Fatalf("placed on %s after the labels moved", d.Node)
	}
	label(3, "hdd")
	s.SetNodes(nodes)
	if _, err := s.Place(&Query{Version: v, Now: start}); !errors.Is(err, ErrNowhere) {
		t.Fatalf("without any node: %v", err)
	}
}

func TestIneligibleNodesAreLeftOut(t *testing.T) {
	t.Parallel()
	s := newTest(t, 6)
	nodes := members(6)
	for i := range nodes {
		m := *nodes[i].Member
		if i != 4 {
			m.Arch = "arm64"
		}
		nodes[i].Member = &m
	}
	s.SetNodes(nodes)
	for i := range 20 {
		if d := mustPlace(t, s, Query{Version: version(string(rune('a'+i)), 0)}); d.Node != nodeID(4) {
			t.Fatalf("went to %s", d.Node)
		}
	}
}

func TestDrainingNodeForwards(t *testing.T) {
	t.Parallel()
	s := newTest(t, 3)
	nodes := members(3)
	m := *nodes[0].Member
	m.Draining = true
	nodes[0].Member = &m
	s.SetNodes(nodes)
	if d := mustPlace(t, s, Query{Version: version("f", 0), Local: Load{Free: 1}}); d.Local {
		t.Error("a draining node kept the call")
	}
}

func TestReceiverKeepsWhatItCanTake(t *testing.T) {
	t.Parallel()
	s := newTest(t, 10)
	v, _ := awayFrom(t, s)
	if d := mustPlace(t, s, Query{Version: v, Hops: 1, Local: Load{InFlight: 1, Instances: 1}}); d.Reason != ReasonKept {
		t.Errorf("a receiver with room sent the call to %s (%s)", d.Node, d.Reason)
	}
	if d := mustPlace(t, s, Query{Version: v, Hops: 1, Local: Load{Full: true}}); d.Local {
		t.Error("a full receiver with a forward left kept the call")
	}
}

// TestPlaceKeepsItsRules holds random decisions against the rules that have no
// exception.
func TestPlaceKeepsItsRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(r, "nodes")
		cfg := DefaultConfig()
		cfg.Self = nodeID(0)
		s, err := New(cfg)
		if err != nil {
			r.Fatal(err)
		}
		nodes := members(n)
		for i := range nodes {
			nodes[i].Usable = rapid.Bool().Draw(r, "usable")
		}
		s.SetNodes(nodes)
		v := version("f", uint32(rapid.IntRange(0, 3).Draw(r, "max")))
		var a *state.Assignment
		if rapid.Bool().Draw(r, "assigned") {
			places := rapid.SliceOfDistinct(rapid.IntRange(0, n-1), rapid.ID[int]).Draw(r, "places")
			slices.Sort(places)
			a = assign(v, places...)
			a.Everywhere = rapid.Bool().Draw(r, "everywhere")
		}
		cut := make([]bool, n)
		for i := range cut {
			cut[i] = rapid.Bool().Draw(r, "cut")
			s.SetLink(nodeID(i), !cut[i])
			if rapid.Bool().Draw(r, "warm") {
				s.SetWarm(nodeID(i), v.Hash, true)
			}
			if rapid.Bool().Draw(r, "token") {
				s.Idle(nodeID(i), v.Hash, start)
			}
		}
		now := start
		for range rapid.IntRange(1, 30).Draw(r, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1000).Draw(r, "ms")) * time.Millisecond)
			q := Query{Version: v, Assignment: a, Hops: rapid.IntRange(0, 3).Draw(r, "hops"), Now: now}
			q.Local = Load{Free: rapid.IntRange(0, 1).Draw(r, "free"), Full: rapid.Bool().Draw(r, "full")}
			for i := range n {
				if rapid.IntRange(0, 3).Draw(r, "exclude") == 0 {
					q.Exclude = append(q.Exclude, nodeID(i))
				}
			}
			d, err := s.Place(&q)
			may := func(i int) bool {
				placed := false
				if a != nil {
					_, placed = a.Place(nodeID(i))
				}
				everywhere := v.Config.GetMax() == 0 && (a == nil || a.Everywhere)
				return nodes[i].Usable && (everywhere || placed) && !slices.Contains(q.Exclude, nodeID(i))
			}
			checkRules(r, n, &q, d, err, may, cut)
			if err == nil {
				s.Sent(d)
				if rapid.Bool().Draw(r, "done") {
					out := Outcome{Took: time.Millisecond, Refused: rapid.Bool().Draw(r, "refused")}
					out.Load = &Load{InFlight: rapid.IntRange(0, 9).Draw(r, "load"), Idle: rapid.IntRange(0, 2).Draw(r, "idle")}
					s.Done(d, out, now)
				}
			}
		}
	})
}

func checkRules(r *rapid.T, n int, q *Query, d Decision, err error, may func(int) bool, cut []bool) {
	possible := may(0)
	for i := 1; i < n && q.Hops < 2; i++ {
		possible = possible || (may(i) && !cut[i])
	}
	if err != nil {
		if possible {
			r.Fatalf("no place (%v) although there is one: %+v", err, q)
		}
		if d != (Decision{}) {
			r.Fatalf("an error with a decision: %+v", d)
		}
		return
	}
	if !possible {
		r.Fatalf("placed on %s although nothing is possible", d.Node)
	}
	chosen := -1
	for i := range n {
		if nodeID(i) == d.Node {
			chosen = i
		}
	}
	switch {
	case chosen < 0 || !may(chosen):
		r.Fatalf("%s may not run this: %+v", d.Node, q)
	case d.Local != (chosen == 0):
		r.Fatalf("local is %v for %s", d.Local, d.Node)
	case !d.Local && cut[chosen]:
		r.Fatalf("sent over a broken link to %s", d.Node)
	case !d.Local && q.Hops >= 2:
		r.Fatal("sent on a third time")
	case may(0) && q.Local.Free > 0 && !d.Local:
		r.Fatal("a free warm slot here was passed over")
	case d.Reason == 0 || d.Reason >= reasonEnd:
		r.Fatalf("reason %d", d.Reason)
	}
}

func TestSpreadFollowsRateTimesDuration(t *testing.T) {
	t.Parallel()
	f := &function{}
	now := int64(0)
	for range 10_000 { // 1,000 per second for long enough to settle
		now += int64(10 * time.Millisecond)
		f.decayLocked(now)
		f.arrivals += 10
	}
	f.took = float64(100 * time.Millisecond)
	if got := f.demandLocked(); math.Abs(got-100) > 5 {
		t.Errorf("demand is %.1f, want about 100 calls at once", got)
	}
	if got := f.spreadLocked(0.25, 10); got < 12 || got > 14 {
		t.Errorf("spread is %d, want 100×1.25/10", got)
	}
}

// TestBurstFillsEveryPlace sends more calls than a version's shares take through
// one node. Exactly the shares are used: nothing is refused while a node with
// room was not asked.
func TestBurstFillsEveryPlace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := newTest(t, 3)
		v := version("burst", 8)
		a := assign(v, 0, 1, 2)
		room, total := make([]int, 3), 0
		for i := range room {
			room[i] = rapid.IntRange(0, 30).Draw(r, "room")
			total += room[i]
		}
		accepted := 0
		for range total + 50 {
			q := Query{Version: v, Assignment: a, Local: Load{Full: room[0] == 0}, Now: start}
			for {
				d, err := s.Place(&q)
				if err != nil {
					break
				}
				s.Sent(d) // stays open when it is accepted
				i := slices.IndexFunc(a.Places, func(p state.Place) bool { return p.Node == d.Node })
				if room[i] > 0 {
					room[i]--
					accepted++
					break
				}
				s.Done(d, Outcome{Refused: true, Load: &Load{Full: true}}, start)
				if q.Exclude = append(q.Exclude, d.Node); !d.Local {
					q.Hops++
				}
			}
		}
		if accepted != total {
			r.Fatalf("%d of %d places were used, left: %v", accepted, total, room)
		}
	})
}
