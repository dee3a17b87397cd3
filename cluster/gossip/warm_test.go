package gossip

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

func warmOf(w *warmSets, node state.NodeID) []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sets[node] == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(w.sets[node].warm))
}

// TestWarmSetsConverge: whatever is lost, doubled or late, a full set makes a
// follower equal to the origin, and nothing old undoes something new.
func TestWarmSetsConverge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		origin, follower := newWarmSets("o", 1), newWarmSets("f", 1)
		var sent []*clusterpb.GossipWarm
		var full []*clusterpb.GossipWarmSet
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				f := rapid.Uint64Range(0, 5).Draw(t, "function")
				if m := origin.announce(f, rapid.Bool().Draw(t, "warm")); m != nil {
					sent = append(sent, m)
				}
			case 2:
				if len(sent) > 0 {
					follower.apply(rapid.SampledFrom(sent).Draw(t, "message"))
				}
			case 3:
				s := &clusterpb.GossipState{}
				if err := proto.Unmarshal(origin.encode(false), s); err != nil {
					t.Fatal(err)
				}
				full = append(full, s.Sets...)
				follower.merge(rapid.SampledFrom(full).Draw(t, "set"))
			}
		}
		s := &clusterpb.GossipState{}
		if err := proto.Unmarshal(origin.encode(false), s); err != nil {
			t.Fatal(err)
		}
		follower.merge(s.Sets[0])
		want := warmOf(origin, "o")
		if diff := cmp.Diff(want, warmOf(follower, "o")); diff != "" {
			t.Fatalf("warm sets differ (-origin +follower):\n%s", diff)
		}
		// Everything that is still under way is old by now.
		for _, m := range sent {
			follower.apply(m)
		}
		for _, m := range full {
			follower.merge(m)
		}
		if diff := cmp.Diff(want, warmOf(follower, "o")); diff != "" {
			t.Fatalf("old news changed the set (-origin +follower):\n%s", diff)
		}
	})
}

func warmChange(seq, function uint64, warm bool) *clusterpb.GossipWarm {
	return &clusterpb.GossipWarm{Node: "n", Boot: 1, Seq: seq, Function: function, Warm: warm}
}

// TestOvertakenChangesLeaveNoGap: packets overtake each other, and once all are
// there, the set is whole and can repair others.
func TestOvertakenChangesLeaveNoGap(t *testing.T) {
	t.Parallel()
	w := newWarmSets("self", 1)
	for _, m := range []*clusterpb.GossipWarm{
		warmChange(3, 7, false), warmChange(4, 8, true), warmChange(2, 9, true), warmChange(1, 7, true),
	} {
		if !w.apply(m) {
			t.Errorf("change %d is no news", m.GetSeq())
		}
		if w.apply(m) {
			t.Errorf("change %d is news twice", m.GetSeq())
		}
	}
	if diff := cmp.Diff([]uint64{8, 9}, warmOf(w, "n")); diff != "" {
		t.Errorf("warm (-want +got):\n%s", diff)
	}
	if set := w.sets["n"]; set.base != 4 || len(set.ahead)+len(set.last) != 0 {
		t.Errorf("after all four changes base is %d, %d ahead, %d last", set.base, len(set.ahead), len(set.last))
	}
}

// TestASetWithAGapIsOnlyForNewcomers: it would undo what others know.
func TestASetWithAGapIsOnlyForNewcomers(t *testing.T) {
	t.Parallel()
	w := newWarmSets("self", 1)
	w.apply(warmChange(1, 7, true))
	w.apply(warmChange(3, 8, true))
	sets := func(join bool) int {
		s := &clusterpb.GossipState{}
		if err := proto.Unmarshal(w.encode(join), s); err != nil {
			t.Fatal(err)
		}
		return len(s.GetSets())
	}
	if n := sets(false); n != 1 {
		t.Errorf("%d sets are passed on, want our own only", n)
	}
	if n := sets(true); n != 2 {
		t.Errorf("a newcomer gets %d sets, want 2", n)
	}
	w.apply(warmChange(2, 9, true))
	if n := sets(false); n != 2 {
		t.Errorf("%d sets are passed on once the gap is closed, want 2", n)
	}
}

// TestChangesAfterAGapAreBounded: a node that never closes it costs no more.
func TestChangesAfterAGapAreBounded(t *testing.T) {
	t.Parallel()
	w := newWarmSets("self", 1)
	for seq := range uint64(aheadMax + 100) {
		if !w.apply(warmChange(seq+2, seq%3, seq%2 == 0)) {
			t.Fatalf("change %d does not count", seq+2)
		}
	}
	if n := len(w.sets["n"].ahead); n != aheadMax {
		t.Errorf("%d changes are remembered, bound is %d", n, aheadMax)
	}
	w.apply(warmChange(1, 5, true))
	if base := w.sets["n"].base; base != aheadMax+1 {
		t.Errorf("base is %d when the gap is closed, want %d", base, aheadMax+1)
	}
}

func TestRebootStartsWithAnEmptyWarmSet(t *testing.T) {
	t.Parallel()
	w := newWarmSets("self", 1)
	w.apply(&clusterpb.GossipWarm{Node: "n", Boot: 3, Seq: 1, Function: 9, Warm: true})
	w.restart("n", 4)
	if got := warmOf(w, "n"); len(got) != 0 {
		t.Errorf("warm after a reboot: %v", got)
	}
	if w.apply(&clusterpb.GossipWarm{Node: "n", Boot: 3, Seq: 2, Function: 8, Warm: true}) {
		t.Error("news of an earlier boot counts")
	}
	told := map[uint64]bool{}
	w.drain(func(_ state.NodeID, f uint64, warm bool) { told[f] = warm })
	if diff := cmp.Diff(map[uint64]bool{9: false}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestPushPullIsBounded(t *testing.T) {
	t.Parallel()
	w := newWarmSets("self", 1)
	w.announce(1, true)
	for _, node := range []state.NodeID{"a", "b", "c"} {
		set := &clusterpb.GossipWarmSet{Node: string(node), Boot: 1, Seq: 1}
		for f := range uint64(stateBytesMax / 8 / 2) {
			set.Functions = append(set.Functions, f)
		}
		w.merge(set)
	}
	data := w.encode(false)
	if len(data) > stateBytesMax+1024 {
		t.Errorf("push/pull carries %d bytes, bound is %d", len(data), stateBytesMax)
	}
	s := &clusterpb.GossipState{}
	if err := proto.Unmarshal(data, s); err != nil {
		t.Fatal(err)
	}
	if len(s.Sets) == 0 || s.Sets[0].Node != "self" {
		t.Error("own set is not first")
	}
}

// TestMetadataFitsTheLimit: a talkative node still tells its addresses.
func TestMetadataFitsTheLimit(t *testing.T) {
	t.Parallel()
	g := &Gossip{meta: &clusterpb.GossipMeta{
		Name: strings.Repeat("n", 200), PeerAddress: "10.0.0.1:7071",
		Runtimes: slices.Repeat([]string{"some-runtime"}, 40),
	}}
	data := delegate{g}.NodeMeta(512)
	m := &clusterpb.GossipMeta{}
	if err := proto.Unmarshal(data, m); err != nil || len(data) == 0 || len(data) > 512 {
		t.Fatalf("%d bytes of metadata, %v", len(data), err)
	}
	if m.GetPeerAddress() != "10.0.0.1:7071" {
		t.Error("metadata lost the address")
	}
}

func FuzzNotifyMsg(f *testing.F) {
	good, err := proto.Marshal(&clusterpb.GossipWarm{Node: "n", Boot: 1, Seq: 1, Function: 2, Warm: true})
	if err != nil {
		f.Fatal(err)
	}
	set, err := proto.Marshal(&clusterpb.GossipState{Sets: []*clusterpb.GossipWarmSet{{Node: "n", Boot: 1, Seq: 3, Functions: []uint64{1}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(set)
	f.Fuzz(func(t *testing.T, data []byte) {
		g := fuzzGossip()
		g.delegate().NotifyMsg(data)
		g.delegate().MergeRemoteState(data, true)
		if len(g.warm.encode(false)) == 0 {
			t.Error("warm sets no longer encode")
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("6ba7b810.17")
	f.Add(".")
	f.Fuzz(func(t *testing.T, name string) {
		id, boot, err := parseName(name)
		if err != nil {
			return
		}
		again, b, err := parseName(nodeName(id, boot))
		if err != nil || again != id || b != boot {
			t.Fatalf("%q reads back as %q.%d, %v", name, again, b, err)
		}
	})
}

// TestCopiesReachMemberlist: the queue sends each change as often as copies says.
func TestCopiesReachMemberlist(t *testing.T) {
	t.Parallel()
	for nodes, want := range map[int]int{1: 8, 3: 10, 40: 12, 200: 14, 1000: 16, 10_000: 18, 1_000_000: 18} {
		q := newQueue(func() int { return nodes })
		q.QueueBroadcast(warmBroadcast("x"))
		sent := 0
		for len(q.GetBroadcasts(3, 1400)) > 0 {
			sent++
		}
		if sent != want || sent != copies(nodes) {
			t.Errorf("with %d nodes a change is sent %d times, want %d", nodes, sent, want)
		}
	}
}
