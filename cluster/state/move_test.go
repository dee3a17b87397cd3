package state

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// leastMoved is how much has to move at least when shares that were differ from even
// ones over some nodes: what is on nodes that go, and what the others have beyond the
// greatest even share, of which only so many nodes may have one.
func leastMoved(before map[NodeID]int, nodes []NodeID, total int) (moved int) {
	base, rest := total/len(nodes), total%len(nodes)
	for n, had := range before {
		if !slices.Contains(nodes, n) {
			moved += had
			continue
		}
		switch {
		case had > base && rest > 0:
			rest--
			moved += had - base - 1
		case had > base:
			moved += had - base
		}
	}
	return moved
}

// movedBy is what nodes lost.
func movedBy(before, after map[NodeID]int) (moved int) {
	for n, had := range before {
		moved += max(had-after[n], 0)
	}
	return moved
}

// reservedFunction is a function of one version.
func reservedFunction(total uint32) *Function {
	key := FunctionKey{"shop", "till"}
	v := newVersion(key, &clusterpb.Version{Number: 1, Config: config(func(c *clusterpb.VersionConfig) { c.Reserved = total })})
	return &Function{App: key.App, Name: key.Name, Versions: []*Version{v}, Aliases: []*Alias{{Name: Live, Version: 1}}}
}

// TestRebalancingMovesNoMoreThanItMust changes a membership at random, and compares what
// moves with the least that even shares allow.
func TestRebalancingMovesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(0, 40).Draw(t, "total")
		v := newVersion(FunctionKey{"shop", "cart"}, &clusterpb.Version{
			Number: 1, Config: config(limited(uint32(total), 64)),
		})
		nodes := map[NodeID]bool{}
		var places []Place
		before := map[NodeID]int{}
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			n := NodeID(fmt.Sprint("n", rapid.IntRange(1, 12).Draw(t, "node")))
			if nodes[n] = !nodes[n]; !nodes[n] {
				delete(nodes, n)
			}
			if len(nodes) == 0 {
				continue // shares stay where they are
			}
			var list []NodeID
			for n := range nodes {
				list = append(list, n)
			}
			slices.Sort(list)
			places = Cut(v, list, places, 0)
			after := map[NodeID]int{}
			for _, p := range places {
				after[p.Node] = p.Max
			}
			if got, least := movedBy(before, after), leastMoved(before, list, total); len(before) > 0 && got > least {
				t.Fatalf("%d of %d moved, %d had to: %v became %v", got, total, least, before, after)
			}
			before = after
		}
	})
}

// TestReservedSharesMoveNoMoreThanTheyMust is the same for reserved concurrency.
func TestReservedSharesMoveNoMoreThanTheyMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Uint32Range(1, 40).Draw(t, "total")
		f := reservedFunction(total)
		r := &Reservation{Function: f.Key()}
		nodes := map[NodeID]bool{}
		for i := range rapid.IntRange(1, 30).Draw(t, "changes") {
			n := NodeID(fmt.Sprint("n", rapid.IntRange(1, 12).Draw(t, "node")))
			if nodes[n] = !nodes[n]; !nodes[n] {
				delete(nodes, n)
			}
			if len(nodes) == 0 {
				continue
			}
			var list []NodeID
			for n := range nodes {
				list = append(list, n)
			}
			slices.Sort(list)
			before := r.shares()
			for range 2 { // once to take away, once to grant what is settled
				changes := CutReserved(f, r, list, func(ReservedPlace) bool { return true })
				next, why := r.with(changes, int(total), Index(i+1))
				if why != "" {
					t.Fatal(why)
				}
				r = next
			}
			if got, least := movedBy(before, r.shares()), leastMoved(before, list, int(total)); len(before) > 0 && got > least {
				t.Fatalf("%d of %d moved, %d had to: %v became %v", got, total, least, before, r.shares())
			}
		}
	})
}
