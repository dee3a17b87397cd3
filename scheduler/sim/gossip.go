package sim

// gossip is what nodes hear of each other, late.
type gossip struct {
	staleness int64
	// warm holds every announcement by function, in order.
	warm [][]warmth
	// offset spreads the delays of the observers over a half to one and a half of
	// the staleness.
	offset []int64

	// loads is how many jobs each node had when it last published that, and since
	// when.
	loads     []int32
	published []int64

	// cuts are the broken links, from<<32|to; dead are the nodes that are known to
	// all as such.
	cuts map[int64]struct{}
	dead []bool
}

// warmth is the announcement that a node has a function warm, or no longer.
type warmth struct {
	at   int64
	node int32
	warm bool
}

func newGossip(s *Sim) gossip {
	g := gossip{
		staleness: int64(s.cfg.Staleness), warm: make([][]warmth, len(s.functions)),
		offset: make([]int64, len(s.nodes)), loads: make([]int32, len(s.nodes)),
		published: make([]int64, len(s.nodes)), cuts: map[int64]struct{}{}, dead: make([]bool, len(s.nodes)),
	}
	for i := range g.offset {
		u := float64(s.random.next()>>11) / (1 << 53)
		g.offset[i] = int64((0.5 + u) * float64(g.staleness))
		g.published[i] = -int64(u * float64(g.staleness))
	}
	return g
}

// warmth announces a pool's first instance, or the loss of its last.
func (s *Sim) warmth(p *pool, warm bool) {
	s.gossip.warm[p.fn] = append(s.gossip.warm[p.fn], warmth{at: s.now, node: p.node.id, warm: warm})
	s.stats.deltas++
}

// load is a node's load as everybody heard it last. Nodes publish it once per
// staleness, each at its own phase.
func (s *Sim) load(n int32) int32 {
	g := &s.gossip
	if g.staleness == 0 {
		return int32(len(s.nodes[n].jobs))
	}
	s.publish(&s.nodes[n])
	return g.loads[n]
}

// publish is called before a node's load changes, so that the load which it had
// at its last publication is kept.
func (s *Sim) publish(n *node) {
	g := &s.gossip
	if g.staleness == 0 || s.now < g.published[n.id]+g.staleness {
		return
	}
	g.published[n.id] = s.now - (s.now-g.published[n.id])%g.staleness
	g.loads[n.id] = int32(len(n.jobs))
}

func link(from, to int32) int64 { return int64(from)<<32 | int64(to) }

// cut remembers that a link broke.
func (g *gossip) cut(from, to int32) { g.cuts[link(from, to)] = struct{}{} }

// usable reports whether a node may be sent calls as far as another one knows.
func (s *Sim) usable(from, to int32) bool {
	if s.gossip.dead[to] {
		return false
	}
	if len(s.gossip.cuts) == 0 {
		return true
	}
	_, cut := s.gossip.cuts[link(from, to)]
	return !cut
}
