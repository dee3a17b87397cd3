package executor

import "time"

// tenure is how long an instance that works is kept at least before it has to end
// for another version, and startWorth how many times its start: what is gained by
// sharing must not be lost in starts.
const (
	tenure     = time.Second
	startWorth = 10
)

// starveLocked notes that there was no memory for in. If calls go on waiting, or
// the warm minimum is missing, the version stands in line for it.
func (p *pool) starveLocked(in *instance, now time.Time) {
	p.starved = now.Add(starvedPause)
	spec := p.spec.Load()
	if p.queue.patient > 0 || int(p.ready.Load()) < spec.Min {
		p.e.memory.want(p.key, in.spec.Memory, now)
	}
}

// feed lets the version try again that waits for memory and is next.
func (e *Executor) feed() {
	now := time.Now()
	key, ok := e.memory.next(now)
	if !ok {
		return
	}
	p := (*e.pools.Load())[key]
	if p == nil {
		return
	}
	p.mu.Lock()
	p.starved = now // it may try at once, with one start
	p.mu.Unlock()
	p.grow()
	p.ensureMin()
}

// yieldLocked decides, at the end of a call, whether the instance goes on with the
// next one or ends for a version that waits for memory and has had less. One with
// further calls in it gets no new ones from then on. It reports whether the slot
// is gone.
func (p *pool) yieldLocked(in *instance, now time.Time) bool {
	if !in.yielding {
		least := max(tenure, startWorth*p.meanCold)
		if in.idleLocked() && p.queue.n == 0 {
			return false // it gives way by itself, if its memory is needed at all
		}
		if now.Sub(in.readyAt) < least || int(p.ready.Load()) <= p.spec.Load().Min ||
			!p.e.memory.yields(p.key, in.spec.Memory, now) {
			return false
		}
		in.yielding = true
		p.withdrawLocked(in)
	}
	if in.busy == 0 {
		p.evictLocked(in, evictShare)
	}
	return true
}

// hopeless tells that waiting for memory is in vain: there is no instance here that
// could ever end for one of p.
func (e *Executor) hopeless(p *pool) bool {
	if p.spec.Load().Memory > e.memory.budget {
		return true
	}
	for _, other := range *e.pools.Load() {
		other.mu.Lock()
		living := len(other.all) // those that are ending included: they free memory
		other.mu.Unlock()
		if living > other.spec.Load().Min {
			return false
		}
	}
	return true
}
