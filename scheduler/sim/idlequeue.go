package sim

import "time"

// joinIdle is join-idle-queue: a node that has a processor free tells a random
// entry, which sends its next call there; an entry that heard of none sends to
// some node.
type joinIdle struct {
	plain
	queues [][]int32 // by entry, the nodes that reported there
	told   []bool    // by node: it stands in a queue
}

func newJoinIdle(s *Sim) (policy, error) {
	p := &joinIdle{queues: make([][]int32, len(s.nodes)), told: make([]bool, len(s.nodes))}
	for i := range s.nodes {
		p.tell(s, &s.nodes[i])
	}
	return p, nil
}

func (p *joinIdle) tell(s *Sim, n *node) {
	if p.told[n.id] || !n.up || float64(len(n.jobs)) >= n.cpus {
		return
	}
	p.told[n.id] = true
	to := s.entries[s.random.below(len(s.entries))]
	s.stats.count(s, &s.stats.messages, 1)
	s.events.push(event{at: s.now + int64(s.cfg.Hop), kind: eventPolicy, node: n.id, gen: uint32(to)})
}

func (p *joinIdle) event(_ *Sim, e *event) { p.queues[e.gen] = append(p.queues[e.gen], e.node) }

func (p *joinIdle) changed(s *Sim, n *node) { p.tell(s, n) }

func (p *joinIdle) place(s *Sim, c *call) int32 {
	for q := p.queues[c.entry]; len(q) > 0; q = p.queues[c.entry] {
		n := q[0]
		p.queues[c.entry] = q[1:]
		p.told[n] = false
		if s.mayTry(c, n) {
			return n
		}
	}
	return s.any(c)
}

// pull is the pull-based kind: an instance that falls idle queues up at the
// function's owner, which hands the calls to the instances; without one it takes
// the node to which it has the fewest calls under way. Going through the owner
// costs a hop.
type pull struct {
	plain
	idle        [][]int32 // by function, nodes with an idle instance, newest last
	outstanding []int32   // by node: what the owners together have there
}

func newPull(s *Sim) (policy, error) {
	return &pull{idle: make([][]int32, len(s.functions)), outstanding: make([]int32, len(s.nodes))}, nil
}

func (p *pull) freed(s *Sim, q *pool, _ int64) {
	s.stats.count(s, &s.stats.messages, 1)
	s.events.push(event{at: s.now + int64(s.cfg.Hop), kind: eventPolicy, node: q.node.id, gen: uint32(q.fn)})
}

// event is either an idle instance's message, or a call that came to the owner.
func (p *pull) event(s *Sim, e *event) {
	if e.call == nil {
		p.idle[e.gen] = append(p.idle[e.gen], e.node)
		return
	}
	c := e.call
	to := nowhere
	for q := p.idle[c.fn]; len(q) > 0 && to < 0; q = p.idle[c.fn] {
		n := q[len(q)-1]
		p.idle[c.fn] = q[:len(q)-1]
		if s.mayTry(c, n) {
			to = n
		}
	}
	if to < 0 {
		for range 2 { // as its authors do: by connections, among a sample
			if n := s.any(c); n >= 0 && (to < 0 || p.outstanding[n] < p.outstanding[to]) {
				to = n
			}
		}
	}
	if to < 0 {
		s.events.push(event{at: s.now + retryAfter, kind: eventArrive, call: c})
		return
	}
	p.outstanding[to]++
	s.send(c, to)
}

func (p *pull) place(s *Sim, c *call) int32 {
	s.stats.count(s, &s.stats.messages, 1)
	s.events.push(event{at: s.now + int64(s.cfg.Hop), kind: eventPolicy, call: c})
	return held
}

func (p *pull) answered(_ *Sim, c *call, _ bool) { p.outstanding[c.node]-- }

// lateBinding is batch sampling with late binding: two nodes get a reservation
// for each call, and the first of them that has a processor free fetches it.
type lateBinding struct {
	plain
	waiting []callQueue // by node, the reservations
	coming  []int       // by node, calls that it has fetched but not got
}

// probes is how many nodes are asked for each call.
const probes = 2

func newLateBinding(s *Sim) (policy, error) {
	return &lateBinding{waiting: make([]callQueue, len(s.nodes)), coming: make([]int, len(s.nodes))}, nil
}

func (p *lateBinding) place(s *Sim, c *call) int32 {
	c.bound = false
	t := &ticket{call: c, at: c.at, round: s.now}
	c.note = t
	for range probes {
		n := s.any(c)
		if n < 0 {
			return nowhere
		}
		s.stats.count(s, &s.stats.messages, 1)
		s.events.push(event{at: s.now + int64(s.cfg.Hop), kind: eventPolicy, node: n, call: &call{note: t}})
	}
	return held
}

// ticket is the reservation of one call; it outlives the call's own record.
type ticket struct {
	call      *call
	at, round int64
	bound     bool
	misses    int
}

func (p *lateBinding) event(s *Sim, e *event) {
	t := e.call.note.(*ticket)
	switch {
	case e.gen == 1: // the fetched call reaches the node
		p.coming[e.node]--
		s.send(t.call, e.node)
	case !s.nodes[e.node].up:
		if t.misses++; t.misses == probes && !t.bound {
			t.bound = true
			s.events.push(event{at: s.now + int64(10*time.Millisecond), kind: eventArrive, call: t.call})
		}
	default:
		p.waiting[e.node].push(e.call)
		p.fetch(s, &s.nodes[e.node])
	}
}

func (p *lateBinding) changed(s *Sim, n *node) { p.fetch(s, n) }

func (p *lateBinding) fetch(s *Sim, n *node) {
	q := &p.waiting[n.id]
	for q.len() > 0 && n.up && float64(len(n.jobs)+p.coming[n.id]) < n.cpus {
		r := q.pop()
		t := r.note.(*ticket)
		if t.bound {
			continue
		}
		t.bound = true
		p.coming[n.id]++
		s.stats.count(s, &s.stats.messages, 2)
		// There and back; the call then is at the node without another hop.
		s.events.push(event{at: s.now + int64(s.cfg.Hop), kind: eventPolicy, node: n.id, gen: 1, call: r})
	}
}

// membership gives the reservations on a dead node up.
func (p *lateBinding) membership(s *Sim, n int32, up bool) {
	if up {
		return
	}
	for r := p.waiting[n].pop(); r != nil; r = p.waiting[n].pop() {
		t := r.note.(*ticket)
		if t.misses++; t.misses == probes && !t.bound {
			t.bound = true
			s.events.push(event{at: s.now, kind: eventArrive, call: t.call})
		}
	}
}
