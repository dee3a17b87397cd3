package scheduler

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/covey-dev/covey/cluster/state"
)

// virtualNodes is the number of points per node on the ring. With 32 the most
// loaded of 1,000 nodes owns about 1.6 times its fair part, which the
// estimates then even out; more points cost memory and sorting on each change.
const virtualNodes = 32

// ring is a consistent-hash ring. It is immutable.
type ring []point

type point struct {
	hash uint64
	node int32
}

// newRing places the nodes with the given indexes.
func newRing(nodes []*node) ring {
	r := make(ring, 0, len(nodes)*virtualNodes)
	for _, n := range nodes {
		for i := range virtualNodes {
			r = append(r, point{hash: pointHash(n.id, i), node: n.index})
		}
	}
	slices.SortFunc(r, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.node, b.node))
	})
	return r
}

// pointHash must be the same on all nodes and in all releases: it says where
// versions live.
func pointHash(id state.NodeID, i int) uint64 {
	b := make([]byte, 0, 64)
	b = append(b, id...)
	b = binary.LittleEndian.AppendUint32(b, uint32(i))
	return xxhash.Sum64(b)
}

// from returns where the points from hash on begin; the length of the ring stands for
// its beginning.
func (r ring) from(hash uint64) int {
	start, _ := slices.BinarySearchFunc(r, hash, func(p point, h uint64) int { return cmp.Compare(p.hash, h) })
	return start
}

// walk yields each node once, in ring order from hash on, until yield returns
// false. nodes bounds the indexes on the ring.
func (r ring) walk(hash uint64, nodes int, yield func(index int32) bool) {
	start := r.from(hash)
	seen := newBits(nodes)
	for i := range r {
		p := r[(start+i)%len(r)]
		if seen.has(p.node) {
			continue
		}
		seen.set(p.node)
		if !yield(p.node) {
			return
		}
	}
}

// bits is a set of node indexes. Reading beyond its end says no.
type bits []uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) has(i int32) bool {
	w := int(i >> 6)
	return w < len(b) && b[w]&(1<<(uint(i)&63)) != 0
}

func (b bits) set(i int32) { b[i>>6] |= 1 << (uint(i) & 63) }

func (b bits) clear(i int32) {
	if w := int(i >> 6); w < len(b) {
		b[w] &^= 1 << (uint(i) & 63)
	}
}

// grown returns b with room for index i.
func (b bits) grown(i int32) bits {
	for int(i>>6) >= len(b) {
		b = append(b, 0)
	}
	return b
}
