package executor

import (
	"context"
	"time"

	"github.com/covey-dev/covey/internal/keepalive"
)

const (
	// maintainEvery is how often Run looks for instances to end or to start.
	// Idle times are kept to this precision.
	maintainEvery = 200 * time.Millisecond
	// hungryEvery is how often the Scale hook is asked again while calls wait
	// that it did not start an instance for.
	hungryEvery = 5 * time.Millisecond
)

// hungry asks Run to ask the hook again soon.
func (e *Executor) hungry() {
	if !e.hunger.Swap(true) {
		e.poke()
	}
}

// maintain is Run's loop: everything that happens without a call.
func (e *Executor) maintain(ctx context.Context) {
	slow := time.NewTicker(maintainEvery)
	defer slow.Stop()
	fast := time.NewTimer(hungryEvery)
	defer fast.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
			e.announce()
			if e.hunger.Load() {
				fast.Reset(hungryEvery)
			}
		case <-fast.C:
			// Cleared before the pools are asked, so that a refusal while they
			// are is not lost.
			e.hunger.Store(false)
			for _, p := range *e.pools.Load() {
				if p.queued.Load() > 0 {
					p.grow()
				}
			}
		case <-slow.C:
			e.tend()
		}
	}
}

// tend ends what is idle for too long, starts what is missing of the warm
// minimum, watches memory and forgets pools that nobody uses.
func (e *Executor) tend() {
	now := time.Now()
	var unused []*pool
	for _, p := range *e.pools.Load() {
		p.reap(now)
		p.ensureMin()
		p.prewarm(now)
		if !e.launch.limitsMemory() {
			p.watchMemory()
		}
		if p.dropIfUnused() {
			unused = append(unused, p)
		}
	}
	e.measure(now)
	e.tidyMemory(now)
	e.announce()
	e.serveGates()
	e.logs.closeIdle(now)
	if len(unused) > 0 {
		e.dropPools(unused)
	}
}

// measure lets the number of starts at once follow the processors.
func (e *Executor) measure(now time.Time) {
	var pressure float64
	var ok bool
	if e.pressure != nil {
		pressure, ok = e.pressure(now)
	}
	e.turns.observe(pressure, ok, now)
}

// tidyMemory forgets who waited for memory, and logs when the first begins to wait
// and when nobody does any more.
func (e *Executor) tidyMemory(now time.Time) {
	e.memory.tidy(now)
	waiting := int(e.memory.contended.Load())
	if (waiting > 0) == e.contended {
		return
	}
	e.contended = waiting > 0
	if e.contended {
		e.log.Warn().Int("waiting", waiting).Int64("budget_bytes", e.memory.budget).
			Msg("functions wait for memory and share it by turns")
	} else {
		e.log.Info().Msg("no function waits for memory any more")
	}
}

// announce tells OnWarm which pools got their first instance or lost their last.
// It compares states instead of passing events on, so that quick changes cannot
// arrive in the wrong order. Only Run's goroutine calls it.
func (e *Executor) announce() {
	for key, p := range *e.pools.Load() {
		warm := p.ready.Load() > 0
		if warm == p.warm {
			continue
		}
		p.warm = warm
		if e.cfg.OnWarm != nil {
			e.cfg.OnWarm(key, warm)
		}
	}
}

// reap ends instances that had no call for the version's idle time, oldest
// first, down to the warm minimum.
func (p *pool) reap(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	spec := p.spec.Load()
	for in := range p.all {
		if in.ahead && in.idleLocked() && now.After(in.until) && int(p.ready.Load()) > spec.Min {
			p.evictLocked(in, evictUnused)
		}
	}
	// At most once for each instance; the idlest is the next to go each time.
	for range p.all {
		in := p.idlestLocked()
		if in == nil || now.Sub(in.lastUsed) < spec.IdleTTL || int(p.ready.Load()) <= p.leastLocked(now) {
			return
		}
		p.evictLocked(in, evictIdle)
	}
}

// eviction is a reason of ours to end an instance that is well.
type eviction struct {
	label string // in the metrics
	why   string
	how   endKind
}

// The evictions. Where a call waits for the memory, they are not gentle.
var (
	evictIdle   = eviction{"idle", "idle", endGraceful}
	evictMemory = eviction{"memory", "memory was needed for another function", endNow}
	evictUnused = eviction{"unused", "the call that it was started ahead of did not come", endGraceful}
	evictShare  = eviction{"share", "another function's turn to have the memory", endNow}
)

// evictLocked ends an instance without work.
func (p *pool) evictLocked(in *instance, ev eviction) {
	p.m.evictions.WithLabelValues(ev.label).Inc()
	p.endLocked(in, ev.how, ev.why)
}

// idlestLocked returns the instance without work that was used the longest time
// ago, or nil.
func (p *pool) idlestLocked() *instance {
	var idlest *instance
	for in := range p.all {
		if in.idleLocked() && (idlest == nil || in.lastUsed.Before(idlest.lastUsed)) {
			idlest = in
		}
	}
	return idlest
}

// idlePriority returns what keeping the pool's idlest instance is worth. It
// reports false when there is none that may give way.
func (p *pool) idlePriority() (float64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := p.idlestLocked()
	if in == nil || int(p.ready.Load()) <= p.leastLocked(time.Now()) {
		return 0, false
	}
	return keepalive.Priority(in.clock, p.calls, p.meanCold, in.spec.Memory), true
}

// evict ends the idlest instance, or returns nil when there is none any more.
func (p *pool) evict() *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := p.idlestLocked()
	if in == nil || int(p.ready.Load()) <= p.leastLocked(time.Now()) {
		return nil
	}
	p.evictLocked(in, evictMemory)
	return in
}

// watchMemory reads the memory of instances with work, and ends those over their
// limit. It stands in for the kernel where that does not enforce the limit, and
// is a little late.
func (p *pool) watchMemory() {
	p.mu.Lock()
	if p.inFlight.Load() == 0 {
		p.mu.Unlock()
		return
	}
	busy := make([]*instance, 0, len(p.all))
	for in := range p.all {
		if in.state == StateReady && in.busy > 0 {
			busy = append(busy, in)
		}
	}
	p.mu.Unlock()
	for _, in := range busy {
		used, err := in.process.Memory()
		if err != nil {
			continue // it is ending
		}
		in.observePeak(used)
		if used > in.spec.Memory {
			in.overMemory.Store(true)
			in.end(endNow, "memory limit exceeded")
		}
	}
}
