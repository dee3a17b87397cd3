package state

import (
	"cmp"
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Assignment is the replicated decision where a version may run. Without one a
// version that has no max may run on every eligible node, and a version that
// has a max may run nowhere yet. Shared: do not change it.
type Assignment struct {
	Version VersionKey
	// Everywhere lets eligible nodes without a place run it too.
	Everywhere bool
	// Places is ascending by node.
	Places []Place
}

// Place is one node's share.
type Place struct {
	Node NodeID
	// Max instances may exist there; 0 means bounded by memory only.
	Max int
	// Queue invocations may wait there.
	Queue int
	// Provisioned instances are kept warm there.
	Provisioned int
}

// Place returns the node's place.
func (a *Assignment) Place(node NodeID) (Place, bool) {
	i, ok := slices.BinarySearchFunc(a.Places, node, func(p Place, n NodeID) int { return cmp.Compare(p.Node, n) })
	if !ok {
		return Place{}, false
	}
	return a.Places[i], true
}

// Equal reports whether both say the same.
func (a *Assignment) Equal(b *Assignment) bool {
	return a.Version == b.Version && a.Everywhere == b.Everywhere && slices.Equal(a.Places, b.Places)
}

// PB returns the assignment as commands carry it.
func (a *Assignment) PB() *clusterpb.Assignment {
	p := &clusterpb.Assignment{Version: a.Version.Ref(), Everywhere: a.Everywhere}
	for _, pl := range a.Places {
		p.Places = append(p.Places, &clusterpb.Place{
			Node: string(pl.Node), Max: uint32(pl.Max), Queue: uint32(pl.Queue), Provisioned: uint32(pl.Provisioned),
		})
	}
	return p
}

func assignmentFromPB(p *clusterpb.Assignment) *Assignment {
	a := &Assignment{Version: KeyOf(p.GetVersion()), Everywhere: p.GetEverywhere()}
	for _, pl := range p.GetPlaces() {
		a.Places = append(a.Places, Place{
			Node: NodeID(pl.GetNode()), Max: int(pl.GetMax()), Queue: int(pl.GetQueue()), Provisioned: int(pl.GetProvisioned()),
		})
	}
	return a
}
