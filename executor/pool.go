package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins"
)

// errPoolGone tells Invoke that the pool was dropped while the call looked it
// up, so that it must look again.
var errPoolGone = errors.New("pool was dropped")

// pool keeps the instances of one version and the calls that wait for one.
//
// Invariants, all under mu: a call waits only while no slot is free, and at most
// the version's queue plus the slots of starting instances wait.
type pool struct {
	e    *Executor
	key  Key
	m    *poolMetrics
	spec atomic.Pointer[Spec]

	// The figures of Load, written under mu and read without it.
	ready, starting, inFlight, free, queued atomic.Int32
	// warm is what OnWarm was told last; only Run's goroutine touches it.
	warm bool

	mu       sync.Mutex
	closed   error                  // guarded by mu; why the pool takes no calls
	retired  bool                   // guarded by mu; instances end when they run out of work
	slots    []*slot                // guarded by mu; the free ones, the latest used last
	all      map[*instance]struct{} // guarded by mu; every instance that is not dead
	queue    waitQueue              // guarded by mu
	failing  backoff                // guarded by mu
	ahead    ahead                  // guarded by mu; instances that were asked for before calls
	starved  time.Time              // guarded by mu; until then memory is not asked for again, zero when it was there
	calls    uint64                 // guarded by mu; since the version last had no instance
	meanRun  time.Duration          // guarded by mu; moving average, 0 while unknown
	meanCold time.Duration          // guarded by mu; moving average, 0 while unknown

	rhythm  rhythm // guarded by mu
	waiters waiters
}

// newPool returns an empty pool; instances come with calls, or with Min.
func newPool(e *Executor, spec *Spec) *pool {
	p := &pool{e: e, key: spec.Key, m: e.m.pool(spec.Key), all: map[*instance]struct{}{}}
	p.spec.Store(spec)
	return p
}

// adopt takes new shares for this node. What they allow takes effect at once,
// what they forbid as soon as instances end by themselves.
func (p *pool) adopt(spec *Spec) {
	p.spec.Store(spec)
}

// acquire finds a slot for a call, or waits for one within the queue's bounds.
func (p *pool) acquire(ctx context.Context, deadline time.Time, patient bool) (grant, error) {
	p.mu.Lock()
	// The slot used last, so that what is not needed falls idle and can go.
	if n := len(p.slots); n > 0 && p.closed == nil {
		s := p.slots[n-1]
		p.slots = p.slots[:n-1]
		p.takeLocked(s)
		p.mu.Unlock()
		return grant{slot: s}, nil
	}
	w, err := p.enqueueLocked(time.Now(), patient)
	p.mu.Unlock()
	if err != nil {
		return grant{}, err
	}
	p.grow()
	return p.await(ctx, deadline, w)
}

// takeLocked accounts for a call in s.
func (p *pool) takeLocked(s *slot) {
	s.in.busy++
	p.inFlight.Add(1)
	if !p.rhythm.idle.IsZero() {
		p.rhythm.began()
	}
	if s.in.ahead {
		p.settleGuessLocked(s.in, true)
	}
	p.free.Store(int32(len(p.slots)))
	p.calls++
	p.retired = false // whoever calls it wants it
}

// enqueueLocked admits a call to the queue, or says why not. A full queue starts
// an instance wherever one is allowed: refusing is worse than a cold start.
func (p *pool) enqueueLocked(now time.Time, patient bool) (*waiter, error) {
	if p.closed != nil {
		return nil, p.closed
	}
	spec := p.spec.Load()
	if p.ready.Load()+p.starting.Load() == 0 && p.failing.active(now) {
		p.m.crashLoop.Inc()
		return nil, p.failing.err(p.key)
	}
	if p.queue.n >= p.roomLocked(spec) {
		if !p.mayStartLocked(spec, now) {
			p.m.drops.Inc()
			return nil, ErrQueueFull
		}
		if p.startLocked(spec, now); p.closed != nil {
			return nil, p.closed
		}
	}
	w := p.waiters.get(now)
	// Who stands behind calls in instances keeps the place when they have to go.
	w.patient = patient || p.ready.Load() > 0
	p.queue.push(w)
	p.queued.Store(int32(p.queue.n))
	p.retired = false
	return w, nil
}

// roomLocked is how many calls may wait: a call that a starting instance will
// take at once needs no place in the queue.
func (p *pool) roomLocked(spec *Spec) int {
	return spec.Queue + int(p.starting.Load())*spec.concurrency()
}

// mayStartLocked tells whether the hard limits allow one more instance.
func (p *pool) mayStartLocked(spec *Spec, now time.Time) bool {
	count := int(p.ready.Load() + p.starting.Load())
	starved := (count > 0 || p.queue.patient > 0) && now.Before(p.starved)
	// After memory was missing, one start at a time finds out whether it still is.
	starved = starved || p.probingLocked(now) && p.starting.Load() > 0
	return p.closed == nil && (spec.Max == 0 || count < spec.Max) && !p.failing.active(now) && !starved
}

// probingLocked tells whether memory was missing a moment ago.
func (p *pool) probingLocked(now time.Time) bool { return now.Before(p.starved.Add(probeFor)) }

// await waits for the grant of a queued call.
func (p *pool) await(ctx context.Context, deadline time.Time, w *waiter) (grant, error) {
	// A caller without a deadline of its own must not wait for ever: longer than a
	// start and a whole call in front of it there is little hope.
	var expired <-chan time.Time
	if _, bounded := ctx.Deadline(); !bounded || !deadline.IsZero() {
		spec := p.spec.Load()
		most := spec.Timeout + p.startTimeout(spec)
		if !deadline.IsZero() {
			most = deadline.Sub(w.since)
		}
		timer := time.NewTimer(most)
		defer timer.Stop()
		expired = timer.C
	}
	var g grant
	var err error
	select {
	case g = <-w.ch:
	case <-ctx.Done():
		g, err = p.leave(w), ctx.Err()
	case <-expired:
		g, err = p.leave(w), context.DeadlineExceeded
	}
	g.waited = time.Since(w.since)
	p.waiters.put(w)
	if err != nil {
		p.m.gone.Inc()
		return grant{}, fmt.Errorf("wait for an instance of %s: %w: %w", p.key, err, plugins.ErrNotStarted)
	}
	return g, g.err
}

// leave gives up a queued call's place, or the slot that it has just got.
func (p *pool) leave(w *waiter) grant {
	p.mu.Lock()
	// Whoever granted a slot did so under the lock and has filled the channel.
	left := p.queue.remove(w)
	p.queued.Store(int32(p.queue.n))
	if p.queue.n == 0 && p.e.memory.contended.Load() > 0 {
		p.e.memory.want(p.key, 0, time.Now())
	}
	p.mu.Unlock()
	if !left {
		if g := <-w.ch; g.slot != nil {
			p.release(g.slot, time.Now(), 0)
		}
	}
	return grant{}
}

// release takes a slot back after its call and hands it on: to the longest
// waiting call, or to the free ones. took is the run time of a call that ended
// by itself, from which the pool learns, or 0.
func (p *pool) release(s *slot, now time.Time, took time.Duration) {
	in, entered := s.in, s.gate
	s.gate = nil // before the slot is somebody else's
	p.mu.Lock()
	in.busy--
	in.lastUsed = now
	in.clock = p.e.memory.clock()
	if p.inFlight.Add(-1) == 0 {
		p.rhythm.ended(now, took)
	}
	if took > 0 {
		in.served = true
		p.failing.succeed()
		p.meanRun = average(p.meanRun, took)
	}
	contended := p.e.memory.contended.Load() > 0
	if in.state == StateReady && (!contended && !in.yielding || !p.yieldLocked(in, now)) {
		p.offerLocked(s)
		p.endIfRetiredLocked(in)
	}
	idle := in.idleLocked()
	if contended && p.queue.n == 0 {
		p.e.memory.want(p.key, 0, now)
	}
	p.mu.Unlock()
	if contended && idle {
		p.e.feed() // it may give way
	}
	entered.leave()
}

// offerLocked gives a slot to the first waiter, or keeps it free.
func (p *pool) offerLocked(s *slot) bool {
	w := p.queue.pop()
	if w == nil {
		p.slots = append(p.slots, s)
		p.free.Store(int32(len(p.slots)))
		return false
	}
	p.queued.Store(int32(p.queue.n))
	p.takeLocked(s)
	w.ch <- grant{slot: s}
	return true
}

// average moves mean an eighth of the way to a new value.
func average(mean, value time.Duration) time.Duration {
	if mean == 0 {
		return value
	}
	return mean + (value-mean)/8
}

// settle restores the invariants after the pool has lost an instance, or hoped
// for one in vain: without any instance nobody can wait but patiently for memory,
// and with fewer starting fewer can. cause is what callers are told in the first
// case; nil means that nothing speaks against starting another one.
func (p *pool) settle(cause error) {
	hopeless := errors.Is(cause, ErrNoCapacity) && p.e.hopeless(p)
	p.mu.Lock()
	if p.ready.Load()+p.starting.Load() == 0 {
		if cause == nil && p.failing.active(time.Now()) {
			cause = p.failing.err(p.key)
		}
		switch {
		case cause == nil:
		case errors.Is(cause, ErrNoCapacity) && !hopeless:
			p.countRefusedLocked(p.refuseHastyLocked(cause), cause)
		default:
			p.countRefusedLocked(p.refuseLocked(0, cause), cause)
		}
		p.calls = 0
	} else {
		p.m.drops.Add(float64(p.refuseLocked(p.roomLocked(p.spec.Load()), ErrQueueFull)))
	}
	p.mu.Unlock()
	p.grow()
	p.ensureMin()
	p.e.poke()
}

// countRefusedLocked tells the metrics why waiting calls were sent away.
func (p *pool) countRefusedLocked(n int, cause error) {
	switch {
	case errors.Is(cause, ErrNoCapacity):
		p.m.noMemory.Add(float64(n))
	default:
		p.m.startFailed.Add(float64(n))
	}
}

// refuseLocked sends the newest waiters away until no more than keep are left.
func (p *pool) refuseLocked(keep int, cause error) (refused int) {
	for ; p.queue.n > keep; refused++ {
		p.queue.popNewest().ch <- grant{err: cause}
	}
	p.queued.Store(int32(p.queue.n))
	return refused
}

// refuseHastyLocked sends those away who do not want to wait for memory.
func (p *pool) refuseHastyLocked(cause error) (refused int) {
	for w := p.queue.head; w != nil; {
		next := w.next
		if !w.patient && p.queue.remove(w) {
			w.ch <- grant{err: cause}
			refused++
		}
		w = next
	}
	p.queued.Store(int32(p.queue.n))
	return refused
}

// shut ends the pool: waiting calls are refused with err, and so are later ones;
// instances end at once, with their calls.
func (p *pool) shut(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = err
	p.refuseLocked(0, err)
	for in := range p.all {
		p.endLocked(in, endNow, "node is stopping")
	}
}

// retire ends idle instances, and busy ones after their last call. A later call
// of the version revives the pool.
func (p *pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for in := range p.all {
		p.endIfRetiredLocked(in)
	}
}

// revive takes retire back.
func (p *pool) revive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = false
}

// endIfRetiredLocked ends an instance that has no work and will get none.
func (p *pool) endIfRetiredLocked(in *instance) {
	if p.retired && in.idleLocked() && p.queue.n == 0 {
		p.endLocked(in, endGraceful, "version is no longer wanted here")
	}
}

// dropIfUnused closes a retired pool without instances and reports whether it
// did; Run then forgets it. OnWarm must have been told that it is cold, which
// nobody could do afterwards.
func (p *pool) dropIfUnused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired && !p.warm && p.closed == nil && len(p.all) == 0 && p.queue.n == 0 && p.inFlight.Load() == 0 {
		p.closed = errPoolGone
	}
	return p.closed != nil && errors.Is(p.closed, errPoolGone)
}

// load returns the figures of Load without taking the lock.
func (p *pool) load() Load {
	spec := p.spec.Load()
	return Load{
		Instances: int(p.ready.Load()), Starting: int(p.starting.Load()),
		Free: int(p.free.Load()), InFlight: int(p.inFlight.Load()), Queued: int(p.queued.Load()),
		Max: spec.Max, Queue: spec.Queue,
	}
}

// startTimeout is the version's own, or the executor's.
func (p *pool) startTimeout(spec *Spec) time.Duration {
	if spec.StartTimeout > 0 {
		return spec.StartTimeout
	}
	return p.e.cfg.StartTimeout
}

// withdrawLocked takes an instance's slots from the free ones.
func (p *pool) withdrawLocked(in *instance) {
	p.slots = slices.DeleteFunc(p.slots, func(s *slot) bool { return s.in == in })
	p.free.Store(int32(len(p.slots)))
}
