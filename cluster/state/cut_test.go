package state

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

func cutVersion(limit, queue, least uint32) *Version {
	return newVersion(FunctionKey{"shop", "cart"}, &clusterpb.Version{Number: 1, Config: &clusterpb.VersionConfig{
		Max: limit, Queue: proto.Uint32(queue), Min: least,
	}})
}

func nodeIDs(n int) []NodeID {
	ids := make([]NodeID, n)
	for i := range ids {
		ids[i] = NodeID(fmt.Sprintf("n%03d", i))
	}
	return ids
}

func TestCutKeepsTheWholeOfSmallLimits(t *testing.T) {
	t.Parallel()
	// Fewer instances than nodes: some nodes get none, the sum stays whole.
	places := Cut(cutVersion(2, 5, 1), nodeIDs(10), nil, 1)
	if len(places) != 2 || places[0].Max != 1 || places[0].Queue+places[1].Queue != 5 || places[0].Provisioned+places[1].Provisioned != 1 {
		t.Fatalf("places are %+v", places)
	}
	if got := Cut(cutVersion(2, 5, 1), nil, nil, 1); got != nil {
		t.Fatalf("without nodes places are %+v", got)
	}
	free := Cut(cutVersion(0, 5, 3), nodeIDs(2), nil, 3)
	if len(free) != 2 || free[0].Max != 0 || free[0].Queue != 5 || free[0].Provisioned+free[1].Provisioned != 3 {
		t.Fatalf("without a max places are %+v", free)
	}
}

func TestCutSpreadsFunctionsOverNodes(t *testing.T) {
	t.Parallel()
	used := map[NodeID]int{}
	for i := range 300 {
		v := newVersion(FunctionKey{"shop", FunctionName(fmt.Sprint("f", i))}, &clusterpb.Version{Number: 1, Config: &clusterpb.VersionConfig{Max: 1}})
		used[Cut(v, nodeIDs(10), nil, 0)[0].Node]++
	}
	for n, c := range used {
		if c < 10 || c > 60 {
			t.Errorf("%d of 300 functions lie on %s", c, n)
		}
	}
	if len(used) != 10 {
		t.Errorf("%d of 10 nodes are used", len(used))
	}
}

// Properties of every cut, also of one that follows a different one.
func TestCutProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Uint32Range(0, 40).Draw(t, "max")
		least := rapid.Uint32Range(0, 12).Draw(t, "min")
		if limit > 0 {
			least = min(least, limit)
		}
		queue := rapid.Uint32Range(0, 200).Draw(t, "queue")
		v := cutVersion(limit, queue, least)
		all := nodeIDs(12)
		before := rapid.SliceOfDistinct(rapid.SampledFrom(all), func(n NodeID) NodeID { return n }).Draw(t, "before")
		nodes := rapid.SliceOfDistinct(rapid.SampledFrom(all), func(n NodeID) NodeID { return n }).Draw(t, "nodes")
		prev := Cut(v, before, nil, int(least))
		places := Cut(v, nodes, prev, int(least))
		checkCut(t, v, nodes, places)
		if again := Cut(v, nodes, places, int(least)); !slices.Equal(again, places) {
			t.Fatalf("cutting again moved\n%+v to\n%+v", places, again)
		}
		slices.Reverse(nodes)
		if other := Cut(v, nodes, prev, int(least)); !slices.Equal(other, places) {
			t.Fatal("the order of the nodes matters")
		}
	})
}

func checkCut(t *rapid.T, v *Version, nodes []NodeID, places []Place) {
	limit, queue, least := int(v.Config.GetMax()), int(v.Config.GetQueue()), int(v.Config.GetMin())
	var sum Place
	most, fewest := 0, 1<<30
	for i, p := range places {
		sum.Max, sum.Queue, sum.Provisioned = sum.Max+p.Max, sum.Queue+p.Queue, sum.Provisioned+p.Provisioned
		most, fewest = max(most, p.Max), min(fewest, p.Max)
		if !slices.Contains(nodes, p.Node) || (i > 0 && places[i-1].Node >= p.Node) {
			t.Fatalf("place %d of %+v is not in order, or on a foreign node", i, places)
		}
		if limit > 0 && (p.Max == 0 || p.Provisioned > p.Max) {
			t.Fatalf("place %+v breaks its own share", p)
		}
		if limit == 0 && (p.Max != 0 || p.Provisioned == 0 || p.Queue != queue) {
			t.Fatalf("place %+v has no reason without a max", p)
		}
	}
	if len(nodes) == 0 {
		return
	}
	if sum.Provisioned != least {
		t.Fatalf("%d provisioned, want %d", sum.Provisioned, least)
	}
	if limit > 0 && (sum.Max != limit || sum.Queue != queue || most-fewest > 1 || len(places) != min(limit, len(nodes))) {
		t.Fatalf("limit %d, queue %d were cut into %+v", limit, queue, places)
	}
}

// A node that goes takes only its own share with it: what the others had may
// grow, and never shrinks.
func TestCutMovesLittleWhenANodeGoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := cutVersion(rapid.Uint32Range(1, 60).Draw(t, "max"), 100, 0)
		nodes := nodeIDs(rapid.IntRange(2, 12).Draw(t, "nodes"))
		prev := Cut(v, nodes, nil, 0)
		gone := rapid.SampledFrom(nodes).Draw(t, "gone")
		next := Cut(v, slices.DeleteFunc(nodes, func(n NodeID) bool { return n == gone }), prev, 0)
		for _, p := range prev {
			i := slices.IndexFunc(next, func(q Place) bool { return q.Node == p.Node })
			if p.Node != gone && (i < 0 || next[i].Max < p.Max) {
				t.Fatalf("%s lost instances when %s went:\n%+v\n%+v", p.Node, gone, prev, next)
			}
		}
	})
}
