package scheduler

import (
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// pressureFor is how long what a node said of its processors is believed fully;
// after that it counts for half, and so on. Load of a whole node changes about
// as fast as its calls end.
const pressureFor = 250 * time.Millisecond

// at returns the node with an index, or nil when it came after the table.
func (t *table) at(index int32) *node {
	if int(index) >= len(t.nodes) {
		return nil
	}
	return t.nodes[index]
}

// cpus is the number of a node's processors.
func (p *placement) cpus(index int32) int {
	if int(index) < len(p.t.cpus) {
		return max(int(p.t.cpus[index]), 1)
	}
	return 1
}

// stretch is how much longer a call is thought to run on a node because of its
// other calls, 1 when not at all.
func (p *placement) stretch(index int32, local bool) float64 {
	busy := float64(p.q.Local.Busy)
	if !local {
		n := p.t.nodes[index]
		heard := n.heard.Load()
		if heard == 0 {
			return 1
		}
		age := max(float64(p.now-heard), 0)
		busy = float64(n.busy.Load()) * float64(pressureFor) / (float64(pressureFor) + age)
	}
	return max((busy+1)/float64(p.cpus(index)), 1)
}

// told reports whether a node refused this call because its processors were busy,
// rather than for lack of a slot or a link.
func (p *placement) told() bool {
	for _, id := range p.q.Exclude {
		if _, ok := p.pressed(id); ok {
			return true
		}
	}
	return false
}

// pressed returns a node that was tried and said how busy it is.
func (p *placement) pressed(id state.NodeID) (int32, bool) {
	n := p.s.registry.lookup(id)
	if n == nil || int(n.index) >= len(p.t.nodes) || !p.f.may.has(n.index) || n == p.s.self || !n.routable() {
		return 0, false
	}
	if n.busy.Load() == 0 || p.f.estimates.get(n.index).believedFull(p.now) {
		return 0, false
	}
	return n.index, true
}

// settle decides about a call that busy nodes refused. It weighs going back to one
// of them, which will then keep the call, against a node that was not asked and
// against this one. Function.mu is held.
func (p *placement) settle(here bool) (Decision, error) {
	var best Decision
	lowest := 0.0
	consider := func(index int32, local bool, reason Reason, must bool) {
		if cost, _, full := p.cost(index, local); !full && (best.Reason == 0 || cost < lowest) {
			lowest, best = cost, p.to(index, reason)
			best.Must = must
		}
	}
	if here {
		consider(p.s.self.index, true, ReasonKept, true)
	}
	for _, id := range p.q.Exclude {
		if index, ok := p.pressed(id); ok {
			consider(index, false, ReasonLastHop, true)
		}
	}
	last := p.q.Hops >= p.s.cfg.Forwards
	if index, reason, ok := p.choose(false); ok {
		consider(index, false, reason, last)
	}
	if best.Reason == 0 {
		return Decision{}, ErrHops
	}
	return best, nil
}
