package scheduler

import (
	"fmt"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// Query asks where one call should go.
type Query struct {
	// Version and Assignment come from one view; Assignment is nil when there is
	// none.
	Version    *state.Version
	Assignment *state.Assignment
	// Local is this node's own load for the version, exact.
	Local Load
	// Hops is how often the call was sent to another node so far, refused attempts
	// included. Zero says that the call entered the cluster here.
	Hops int
	// Key is the hash of the key that the call came with, 0 for none. Calls of a version
	// with affinity that have the same one go to the same node.
	Key uint64
	// Exclude lists the nodes that were tried. This node is in it when its own
	// executor refused.
	Exclude []state.NodeID
	// Now is the time; it must not run backwards by much.
	Now time.Time
}

// Reason tells why a node was chosen.
type Reason uint8

// The reasons, as `covey explain` shows them.
const (
	// ReasonWarm: a free warm slot on this node.
	ReasonWarm Reason = iota + 1
	// ReasonIdle: the node pushed an idle token.
	ReasonIdle
	// ReasonChoice: the cheaper of two random candidates.
	ReasonChoice
	// ReasonWidened: the candidates were over the bound, so the search widened.
	ReasonWidened
	// ReasonKept: the call was sent here and there is room.
	ReasonKept
	// ReasonLastHop: the call may not be sent on.
	ReasonLastHop
	// ReasonOnly: no other node was left.
	ReasonOnly
	// ReasonKey: the node that the call's key belongs to.
	ReasonKey
	// ReasonWait: no node had memory for it, so that it waits here. It is not
	// Place's reason but that of the invocation path.
	ReasonWait

	reasonEnd
)

// String returns the reason as one word.
func (r Reason) String() string {
	names := [reasonEnd]string{"unknown", "warm", "idle", "choice", "widened", "kept", "last-hop", "only", "key", "wait"}
	if r >= reasonEnd {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return names[r]
}

// Decision is where a call goes.
type Decision struct {
	// Node runs the call; Local says that it is this node.
	Node   state.NodeID
	Local  bool
	Reason Reason
	// Must tells the node to keep the call even when its processors are busy,
	// because every other one is thought to be worse.
	Must bool

	function *function
	index    int32
}

// Place decides. It neither blocks on I/O nor, once a version is known,
// allocates. The error wraps ErrNowhere or ErrHops.
func (s *Scheduler) Place(q *Query) (Decision, error) {
	t := s.table.Load()
	f := s.function(q.Version.Hash)
	now := s.nanos(q.Now)
	f.mu.Lock()
	defer f.mu.Unlock()

	f.decayLocked(now)
	if q.Hops == 0 {
		f.arrivals++
	}
	f.refreshLocked(s, t, q.Version, q.Assignment, 1)
	p := placement{s: s, t: t, f: f, q: q, now: now}
	p.slots = p.slotsOf(s.self.index)
	p.spread = f.spreadLocked(s.cfg.Epsilon, p.slots)
	if p.spread > len(f.order) {
		f.refreshLocked(s, t, q.Version, q.Assignment, p.spread)
		p.spread = min(p.spread, len(f.order))
	}
	return p.decide()
}

// Runners returns the nodes that may run a version and are up as far as known, in the
// order of the ring: its calls go to the first ones first.
func (s *Scheduler) Runners(v *state.Version, a *state.Assignment) []state.NodeID {
	t := s.table.Load()
	may := t.runners(&s.registry, v, a)
	var ids []state.NodeID
	t.ring.walk(v.Hash, len(t.nodes), func(index int32) bool {
		n := t.nodes[index]
		if may.has(index) && n.usable.Load() && (n == s.self || n.routable()) {
			ids = append(ids, n.id)
		}
		return true
	})
	return ids
}

// placement is one decision being made. function.mu is held.
type placement struct {
	s      *Scheduler
	t      *table
	f      *function
	q      *Query
	now    int64
	slots  float64
	spread int
}

// decide goes through the steps of the package comment in order.
func (p *placement) decide() (Decision, error) {
	self := p.s.self
	here := p.f.may.has(self.index) && self.usable.Load() && !slices.Contains(p.q.Exclude, self.id)
	if p.q.Key != 0 && p.q.Hops < p.s.cfg.Forwards && p.q.Version.Config.GetAffinity() {
		if index, ok := p.home(here); ok {
			return p.to(index, ReasonKey), nil
		}
	}
	switch {
	case here && p.q.Local.Free > 0 && p.q.Local.Busy < p.cpus(self.index):
		return p.to(self.index, ReasonWarm), nil
	case p.q.Hops > 0 && p.told():
		return p.settle(here)
	case here && p.q.Hops >= p.s.cfg.Forwards:
		return p.to(self.index, ReasonLastHop), nil
	case p.q.Hops >= p.s.cfg.Forwards:
		return Decision{}, ErrHops
	case here && p.q.Hops > 0 && !p.q.Local.Full:
		return p.to(self.index, ReasonKept), nil
	}
	if index, ok := p.takeToken(); ok {
		return p.to(index, ReasonIdle), nil
	}
	if index, reason, ok := p.choose(here); ok {
		return p.to(index, reason), nil
	}
	index, full, ok := p.any()
	switch {
	case ok && !full:
		return p.to(index, ReasonOnly), nil
	case here:
		// Everybody is full as far as known: the own executor says so to the caller
		// without a hop.
		return p.to(self.index, ReasonOnly), nil
	case ok:
		return p.to(index, ReasonOnly), nil
	}
	return Decision{}, ErrNowhere
}

func (p *placement) to(index int32, reason Reason) Decision {
	n := p.t.nodes[index]
	return Decision{Node: n.id, Local: n == p.s.self, Reason: reason, function: p.f, index: index}
}

// home returns the first node from the key's place on the ring that may run the call
// and has not refused it. A node that comes or goes changes the home of its own keys
// only, and a key keeps its home from version to version. Where few of many nodes may
// run the version, the way to one of them is longer.
func (p *placement) home(here bool) (int32, bool) {
	r := p.t.ring
	start := r.from(mixed(p.q.Key))
	for i := range r {
		at := start + i
		if at >= len(r) {
			at -= len(r)
		}
		index := r[at].node
		if (index == p.s.self.index && here) || p.open(index) {
			return index, true
		}
	}
	return 0, false
}

// open reports whether the call may be sent to another node.
func (p *placement) open(index int32) bool {
	if !p.f.may.has(index) || index == p.s.self.index {
		return false
	}
	n := p.t.nodes[index]
	return n.routable() && !slices.Contains(p.q.Exclude, n.id)
}

// takeToken uses up the newest idle token that still counts.
func (p *placement) takeToken() (int32, bool) {
	f := p.f
	for f.tokenCount > 0 {
		f.tokenCount--
		tk := f.tokens[f.tokenCount]
		if p.now-tk.at <= int64(p.s.cfg.TokenTTL) && p.open(tk.node) {
			return tk.node, true
		}
	}
	return 0, false
}

// choices is how many candidates are compared at a time.
const choices = 2

// choose compares random candidates, and widens the search when even the
// better one is over the bound. This node is a candidate like the others while
// it has room.
func (p *placement) choose(here bool) (int32, Reason, bool) {
	here = here && !p.q.Local.Full
	best, bestCost, bestLoad := int32(-1), 0.0, 0.0
	consider := func(index int32) {
		local := index == p.s.self.index
		if (local && !here) || (!local && !p.open(index)) || index == best {
			return
		}
		cost, load, full := p.cost(index, local)
		if !full && (best < 0 || cost < bestCost) {
			best, bestCost, bestLoad = index, cost, load
		}
	}
	reason := ReasonChoice
	spread := p.spread
	for range 3 {
		for range choices {
			if index, ok := p.sample(spread); ok {
				consider(index)
			}
		}
		if best >= 0 && bestLoad <= (1+p.s.cfg.Epsilon)*max(p.f.mean, p.slots) {
			return best, reason, true
		}
		reason = ReasonWidened
		spread = min(2*spread+1, len(p.f.order))
	}
	return best, reason, best >= 0
}

// sample draws from the first k of the ring's order and the warm nodes. A node
// that is in both is twice as likely, which is as it should be.
func (p *placement) sample(spread int) (int32, bool) {
	n := spread + len(p.f.warm)
	if n == 0 {
		return 0, false
	}
	i := p.f.pickLocked(n)
	if i < spread {
		return p.f.order[i], true
	}
	return p.f.warm[i-spread], true
}

// cost is the expected time until the call is done there, in nanoseconds: the run
// time stretched by the load per slot, a start where nothing is warm, and the
// hop. A load under the number of slots costs next to nothing.
func (p *placement) cost(index int32, local bool) (cost, load float64, full bool) {
	took := p.f.tookLocked()
	warm := p.f.isWarmLocked(index)
	instances := 0
	if local {
		instances = p.q.Local.Instances
		load = float64(p.q.Local.InFlight + p.q.Local.Queued)
		warm = p.q.Local.Instances > 0
	} else {
		var e *estimate
		load, e = p.f.loadLocked(index, p.now)
		warm = warm || (e != nil && e.instances > 0)
		full = e.believedFull(p.now)
		if e != nil {
			instances = int(e.instances)
		}
		cost = float64(p.s.cfg.HopCost)
	}
	x := (load + 1) / p.slotsOf(index)
	cost += took * (max(x, 1) + x/8)
	cost += took * (p.stretch(index, local) - 1)
	switch {
	case !warm:
		cost += p.f.coldLocked()
	case instances > 0 && load >= float64(instances*p.f.concurrency):
		// It will wait for a slot, or for a start.
		cost += min(took/2, p.f.coldLocked())
	}
	noise := float64(p.f.nextLocked()>>11) / (1 << 53)
	return cost * (1 + p.s.cfg.Noise*noise), load, full
}

// slotsOf is how many calls a node runs at once without stretching them: its
// processors times the concurrency of an instance, or its share if that is less.
func (p *placement) slotsOf(index int32) float64 {
	slots := 1
	if int(index) < len(p.t.cpus) {
		slots = int(p.t.cpus[index])
	}
	if a := p.q.Assignment; a != nil && int(index) < len(p.t.nodes) {
		if place, ok := a.Place(p.t.nodes[index].id); ok && place.Max > 0 {
			slots = min(slots, place.Max)
		}
	}
	return float64(slots * p.f.concurrency)
}

// any returns some other node that may run the call, in ring order. One that is
// believed full comes last but does come: the belief may be old.
func (p *placement) any() (index int32, full, ok bool) {
	for _, index := range p.f.order {
		if !p.open(index) {
			continue
		}
		if !p.f.estimates.get(index).believedFull(p.now) {
			return index, false, true
		}
		full = true
	}
	if full {
		for _, index := range p.f.order {
			if p.open(index) {
				return index, true, true
			}
		}
	}
	if !p.f.complete {
		for index := range int32(len(p.t.nodes)) {
			if p.open(index) {
				return index, false, true
			}
		}
	}
	return 0, false, false
}
