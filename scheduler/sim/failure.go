package sim

import (
	"cmp"
	"slices"
)

// planFailures chooses who dies and when.
func (s *Sim) planFailures() {
	r := random(s.cfg.Seed ^ 0xdead)
	span := int64(s.cfg.Workload.Length) - s.stats.from
	chosen := map[int32]bool{}
	for i := range s.cfg.Failures {
		n := int32(r.below(len(s.nodes)))
		for chosen[n] {
			n = int32(r.below(len(s.nodes)))
		}
		chosen[n] = true
		at := s.stats.from + span*int64(i+1)/int64(s.cfg.Failures+2)
		s.events.push(event{at: at, kind: eventFail, node: n})
		s.events.push(event{at: at + int64(s.cfg.DeadAfter), kind: eventFail, node: n, gen: 1})
		s.events.push(event{at: at + int64(s.cfg.FailFor), kind: eventRecover, node: n})
	}
}

// fail ends a node; the second time it only makes the death known.
func (s *Sim) fail(n *node) {
	if !n.up {
		s.gossip.dead[n.id] = true
		s.policy.membership(s, n.id, false)
		return
	}
	n.advance(s.now)
	n.up = false
	n.gen++
	var lost []*call
	slices.SortFunc(n.jobs, func(a, b job) int { return cmp.Compare(a.serial, b.serial) })
	for _, j := range n.jobs {
		if j.call != nil {
			lost = append(lost, j.call)
		}
	}
	n.jobs = n.jobs[:0]
	for _, p := range n.pools {
		if p == nil {
			continue
		}
		s.policy.failed(s, p)
		for c := p.queue.pop(); c != nil; c = p.queue.pop() {
			lost = append(lost, c)
		}
		for _, in := range p.all {
			if in.busy > 0 {
				s.stats.busyMemory(s, -s.functions[p.fn].memory)
			}
		}
		if len(p.all) > 0 {
			s.warmth(p, false)
		}
		p.all, p.free, p.starting, p.inFlight, p.listed, p.calls = nil, nil, 0, 0, false, 0
	}
	s.stats.memory(s, -n.memory)
	n.memory, n.used = 0, n.used[:0]
	s.policy.changed(s, n)
	for _, c := range lost {
		c.broken = true
		s.back(c, eventRefused)
	}
}

// recover brings a node back, empty.
func (s *Sim) recover(n *node) {
	n.up, n.at = true, s.now
	s.gossip.dead[n.id] = false
	for k := range s.gossip.cuts {
		if int32(k) == n.id {
			delete(s.gossip.cuts, k)
		}
	}
	s.policy.membership(s, n.id, true)
	s.policy.changed(s, n)
}
