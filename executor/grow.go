package executor

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// startLocked decides to start an instance, which is then done on a goroutine of
// its own. When Run has ended meanwhile it closes the pool instead.
func (p *pool) startLocked(spec *Spec, now time.Time) {
	e := p.e
	in := &instance{
		id:       e.boot + "-" + strconv.FormatUint(e.serial.Add(1), 36),
		p:        p,
		spec:     spec,
		asked:    now,
		lastUsed: now,
		clock:    e.memory.clock(),
		dead:     make(chan struct{}),
	}
	in.ctx, in.cancel = context.WithCancel(e.ctx)
	in.log = e.logs.instance(p.key, in.id, spec.concurrency() == 1)
	if !e.spawn(in.supervise) {
		in.cancel()
		p.closed = ErrClosed
		p.refuseLocked(0, ErrClosed)
		return
	}
	p.starting.Add(1)
	p.all[in] = struct{}{}
}

// grow starts instances as long as calls wait that no starting one will take,
// the limits allow it, and the Scale hook agrees. The first instance of a version
// is not the hook's to refuse.
func (p *pool) grow() {
	for {
		now := time.Now()
		p.mu.Lock()
		if !p.shortLocked(now) {
			starved := p.queue.n > 0 && p.probingLocked(now)
			p.mu.Unlock()
			if starved {
				p.e.hungry()
			}
			return
		}
		if p.ready.Load()+p.starting.Load() > 0 {
			in := p.scaleInputLocked(now)
			p.mu.Unlock()
			if !p.e.scale(in) {
				p.e.hungry()
				return
			}
			p.mu.Lock()
		}
		if p.shortLocked(now) {
			p.startLocked(p.spec.Load(), now)
		}
		p.mu.Unlock()
	}
}

// shortLocked tells whether a further instance would have a call at once and is
// allowed.
func (p *pool) shortLocked(now time.Time) bool {
	spec := p.spec.Load()
	return p.queue.n > int(p.starting.Load())*spec.concurrency() && p.mayStartLocked(spec, now)
}

// scaleInputLocked gathers what the Scale hook is asked about, so that the hook
// itself runs without the lock.
func (p *pool) scaleInputLocked(now time.Time) ScaleInput {
	in := ScaleInput{
		Key: p.key, Load: p.load(), Concurrency: p.spec.Load().concurrency(),
		Run: p.meanRun, Cold: p.meanCold,
	}
	if w := p.queue.head; w != nil {
		in.Waited = now.Sub(w.since)
	}
	return in
}

// scale asks the hook.
func (e *Executor) scale(in ScaleInput) bool {
	return e.cfg.Scale == nil || e.cfg.Scale(in)
}

// ensureMin starts what is missing of the instances that are kept warm.
func (p *pool) ensureMin() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	spec := p.spec.Load()
	// Crash loops and memory hold it back through mayStartLocked; Run comes again.
	for !p.retired && int(p.ready.Load()+p.starting.Load()) < p.leastLocked(now) && p.mayStartLocked(spec, now) {
		p.startLocked(spec, now)
	}
}

// errNotNeeded ends a start whose calls were served by others meanwhile.
var errNotNeeded = errors.New("start is not needed any more")

// confirm tells, when a start's turn has come, whether it still has a purpose.
// If not, it is taken off the books, so that nobody counts on it.
func (p *pool) confirm(in *instance) bool {
	p.mu.Lock()
	spec := p.spec.Load()
	pending := int(p.starting.Load()) - 1 // without this one
	alone := p.ready.Load() == 0 && pending == 0
	floor := int(p.ready.Load())+pending < p.leastLocked(time.Now()) || in.ahead
	waiting := p.queue.n > pending*spec.concurrency()
	if !floor && waiting && !alone && p.queue.n <= spec.Queue+pending*spec.concurrency() {
		ask := p.scaleInputLocked(time.Now())
		ask.Starting = pending
		p.mu.Unlock()
		agreed := p.e.scale(ask)
		p.mu.Lock()
		// Calls may have come to count on this start while the hook thought.
		pending = int(p.starting.Load()) - 1
		alone = p.ready.Load() == 0 && pending == 0
		waiting = p.queue.n > pending*spec.concurrency() &&
			(agreed || alone || p.queue.n > spec.Queue+pending*spec.concurrency())
	}
	defer p.mu.Unlock()
	if in.why == "" && (floor || waiting) {
		return true
	}
	p.starting.Add(-1)
	in.state = StateDead
	return false
}

// welcome puts a started instance into service: waiting calls first.
func (p *pool) welcome(in *instance) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting.Add(-1)
	if in.why != "" {
		in.state = StateDraining // asked to end while it started
		return
	}
	in.state, in.readyAt, in.lastUsed = StateReady, now, now
	p.ready.Add(1)
	p.meanCold = average(p.meanCold, now.Sub(in.asked))
	p.starved = time.Time{}
	// Calls that wait get their slots under the same lock under which the start
	// stops counting as room in the queue: nobody can slip in between.
	for i := range in.spec.concurrency() {
		s := &slot{in: in}
		if w := p.queue.pop(); w != nil {
			p.takeLocked(s)
			w.ch <- grant{slot: s, cold: true, first: i == 0}
		} else {
			p.slots = append(p.slots, s)
		}
	}
	p.queue.keepAll() // they stand behind calls that run now
	p.queued.Store(int32(p.queue.n))
	p.free.Store(int32(len(p.slots)))
	p.endIfRetiredLocked(in)
	p.e.poke()
}
