package sim

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// randomly sends each call to some node.
type randomly struct{ plain }

func newRandom(*Sim) (policy, error) { return randomly{}, nil }

func (randomly) place(s *Sim, c *call) int32 { return s.any(c) }

// any returns some node that was not tried yet.
func (s *Sim) any(c *call) int32 {
	for range 64 {
		if n := int32(s.random.below(len(s.nodes))); s.mayTry(c, n) {
			return n
		}
	}
	return nowhere
}

// roundRobin goes round the nodes, each entry by itself from a place of its own.
type roundRobin struct {
	plain
	next []int32
}

func newRoundRobin(s *Sim) (policy, error) {
	p := &roundRobin{next: make([]int32, len(s.nodes))}
	for i := range p.next {
		p.next[i] = int32(s.random.below(len(s.nodes)))
	}
	return p, nil
}

func (p *roundRobin) place(s *Sim, c *call) int32 {
	for range s.nodes {
		n := p.next[c.entry]
		p.next[c.entry] = (n + 1) % int32(len(s.nodes))
		if s.mayTry(c, n) {
			return n
		}
	}
	return nowhere
}

// twoChoices takes the less loaded of two random nodes, by gossip.
type twoChoices struct{ plain }

func newTwoChoices(*Sim) (policy, error) { return twoChoices{}, nil }

func (twoChoices) place(s *Sim, c *call) int32 {
	a, b := s.any(c), s.any(c)
	if a >= 0 && b >= 0 && s.load(b) < s.load(a) {
		return b
	}
	return a
}

// leastLoaded takes the node that is the least loaded by gossip; ties are broken
// at random, or all entries would agree on one.
type leastLoaded struct{ plain }

func newLeastLoaded(*Sim) (policy, error) { return leastLoaded{}, nil }

func (leastLoaded) place(s *Sim, c *call) int32 {
	best, lowest := nowhere, int32(0)
	first := s.random.below(len(s.nodes))
	for i := range s.nodes {
		n := int32((first + i) % len(s.nodes))
		if l := s.load(n); (best < 0 || l < lowest) && s.mayTry(c, n) {
			if best, lowest = n, l; l == 0 {
				break
			}
		}
	}
	return best
}

// homes orders the nodes for each function.
type homes struct {
	plain
	ring []homePoint
	// bounded skips nodes whose load by gossip is over 1.25 times the mean.
	bounded bool
}

type homePoint struct {
	hash uint64
	node int32
}

func hash(kind byte, a, b int) uint64 {
	buf := [17]byte{kind}
	binary.LittleEndian.PutUint64(buf[1:], uint64(a))
	binary.LittleEndian.PutUint64(buf[9:], uint64(b))
	return xxhash.Sum64(buf[:])
}

func newHomes(s *Sim) *homes {
	const points = 32
	p := &homes{}
	for n := range s.nodes {
		for i := range points {
			p.ring = append(p.ring, homePoint{hash(1, n, i), int32(n)})
		}
	}
	slices.SortFunc(p.ring, func(a, b homePoint) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.node, b.node)) })
	return p
}

// newHome is home-node hashing: a function's calls go to the node it hashes to,
// and to the next ones when that refuses.
func newHome(s *Sim) (policy, error) { return newHomes(s), nil }

// newBounded is consistent hashing with bounded loads.
func newBounded(s *Sim) (policy, error) {
	p := newHomes(s)
	p.bounded = true
	return p, nil
}

// accepts refuses as long as there are others to ask, so that the next home gets
// the call.
func (p *homes) accepts(_ *Sim, n *node, c *call) bool {
	return c.sends == maxSends || float64(len(n.jobs)) < n.cpus
}

func (p *homes) place(s *Sim, c *call) int32 {
	if c.sends == maxSends-1 {
		return s.any(c) // all its homes are busy: some node has to take it
	}
	bound := int32(1 << 30)
	if p.bounded {
		sum := 0
		for n := range s.nodes {
			sum += int(s.load(int32(n)))
		}
		bound = int32(1.25*float64(sum)/float64(len(s.nodes))) + 1
	}
	start, _ := slices.BinarySearchFunc(p.ring, hash(0, int(c.fn), 0), func(h homePoint, x uint64) int { return cmp.Compare(h.hash, x) })
	fallback := nowhere
	for i := range p.ring {
		n := p.ring[(start+i)%len(p.ring)].node
		if !s.mayTry(c, n) {
			continue
		}
		if s.load(n) < bound {
			return n
		}
		if fallback < 0 {
			fallback = n
		}
	}
	return fallback
}
