package state

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Cut divides a version's max and queue, and least provisioned instances, over
// the nodes that may run it, and returns the places ascending by node.
//
// Shares of max differ by at most one; with fewer instances than nodes some
// nodes get no place. Queue shares follow max shares. Without a max only nodes
// with provisioned instances get a place, its Max is 0 (no limit but memory) and
// its Queue the whole queue. prev are the places until now: nodes that have the
// greater shares keep them, so that little moves and cutting again changes
// nothing. Which nodes get the greater shares at first is spread by hash, or all
// functions would crowd on the same nodes.
//
// Cut is part of the replicated behaviour, because a deploy uses it.
func Cut(v *Version, nodes []NodeID, prev []Place, least int) []Place {
	if len(nodes) == 0 {
		return nil
	}
	// All further steps work in the order of preference and break ties by it; the
	// order of the argument never matters.
	order := preference(v.Hash, nodes)
	before := make(map[NodeID]Place, len(prev))
	for _, p := range prev {
		before[p.Node] = p
	}
	places := make([]Place, len(order))
	for i, n := range order {
		places[i].Node = n
	}

	limit := int(v.Config.GetMax())
	spread(places, limit, func(p *Place) *int { return &p.Max },
		func(p Place) (int, int) { return 1, before[p.Node].Max })
	if limit > 0 {
		places = slices.DeleteFunc(places, func(p Place) bool { return p.Max == 0 })
		least = min(least, limit)
	}
	// A node with a greater share of max has room for the greater share of
	// provisioned ones, so it comes first.
	spread(places, least, func(p *Place) *int { return &p.Provisioned },
		func(p Place) (int, int) { return p.Max, before[p.Node].Provisioned })
	if limit > 0 {
		cutQueue(places, int(v.Config.GetQueue()), limit)
	} else {
		places = slices.DeleteFunc(places, func(p Place) bool { return p.Provisioned == 0 })
		for i := range places {
			places[i].Queue = int(v.Config.GetQueue())
		}
	}
	slices.SortFunc(places, func(a, b Place) int { return cmp.Compare(a.Node, b.Node) })
	return places
}

// preference orders nodes by a hash of something and the node: the same for every
// replica, different for every thing that is hashed.
func preference(hash uint64, nodes []NodeID) []NodeID {
	type scored struct {
		node  NodeID
		score uint64
	}
	list := make([]scored, len(nodes))
	for i, n := range nodes {
		var seed [8]byte
		appendBigEndian(seed[:0], hash)
		h := xxhash.New()
		_, _ = h.Write(seed[:])
		_, _ = h.WriteString(string(n))
		list[i] = scored{n, h.Sum64()}
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.node, b.node))
	})
	order := make([]NodeID, len(list))
	for i, s := range list {
		order[i] = s.node
	}
	return order
}

// spread divides total evenly. The remainder goes, one each, to the places with
// the greatest room, then to those that had more than the even share, then in
// the order given.
func spread(places []Place, total int, field func(*Place) *int, rank func(Place) (room, had int)) {
	if len(places) == 0 {
		return
	}
	base, rest := total/len(places), total%len(places)
	first := make([]int, len(places))
	for i := range first {
		first[i] = i
		*field(&places[i]) = base
	}
	slices.SortStableFunc(first, func(i, j int) int {
		roomI, hadI := rank(places[i])
		roomJ, hadJ := rank(places[j])
		// What a node had counts only as "more than the others", so that a
		// node keeps a greater share but does not draw a second one to it.
		moreI, moreJ := min(hadI, base+1), min(hadJ, base+1)
		return cmp.Or(cmp.Compare(roomJ, roomI), cmp.Compare(moreJ, moreI))
	})
	for _, i := range first[:rest] {
		*field(&places[i])++
	}
}

// cutQueue divides the queue in proportion to max; what rounding leaves over
// goes by largest remainder.
func cutQueue(places []Place, queue, limit int) {
	left := queue
	remainder := make([]int, len(places))
	first := make([]int, len(places))
	for i, p := range places {
		first[i] = i
		places[i].Queue = queue * p.Max / limit
		remainder[i] = queue * p.Max % limit
		left -= places[i].Queue
	}
	slices.SortStableFunc(first, func(i, j int) int { return cmp.Compare(remainder[j], remainder[i]) })
	for _, i := range first[:left] {
		places[i].Queue++
	}
}
