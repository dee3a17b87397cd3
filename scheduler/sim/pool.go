package sim

import (
	"math"
	"slices"
	"time"

	"github.com/covey-dev/covey/scheduler"
)

// starvedPause is how long a pool that got no memory waits before it asks again,
// as in package executor.
const starvedPause = int64(50 * time.Millisecond)

// pool holds the instances of one function on one node, and the calls that wait
// for one. It behaves as executor's pool does.
type pool struct {
	fn   int32
	node *node

	all      []*instance // ready ones
	free     []*instance // one entry per free slot, the latest used last
	queue    callQueue
	starting int
	inFlight int

	calls             uint64
	meanRun, meanCold int64
	starved           int64
	waking            bool
	listed            bool // in node.used
}

// instance is one execution environment.
type instance struct {
	p        *pool
	busy     int
	lastUsed int64
	asked    int64
	clock    float64
}

// load is what a node tells about one function on itself.
type load = scheduler.Load

func (s *Sim) pool(n *node, fn int32) *pool {
	p := n.pools[fn]
	if p == nil {
		p = &pool{fn: fn, node: n}
		n.pools[fn] = p
	}
	return p
}

// peek is the load of a function on a node.
func (s *Sim) peek(n *node, fn int32) load {
	p := n.pools[fn]
	if p == nil {
		return load{Busy: len(n.jobs)}
	}
	return load{
		Busy:     len(n.jobs),
		InFlight: p.inFlight, Queued: p.queue.len(), Free: len(p.free),
		Instances: len(p.all), Starting: p.starting,
	}
}

// submit gives a call to a node, and reports false when that refuses it.
func (s *Sim) submit(n *node, c *call) bool {
	p := s.pool(n, c.fn)
	if len(p.free) > 0 {
		s.run(p, p.popFree(), c, false)
		return true
	}
	f := &s.functions[c.fn]
	if p.queue.len() >= s.cfg.Queue+p.starting*f.concurrency && (s.now < p.starved || !s.start(p)) {
		return false
	}
	p.queue.push(c)
	s.grow(p)
	if !c.waiting(p) {
		return true
	}
	if len(p.all)+p.starting == 0 {
		p.queue.popNewest()
		return false
	}
	return true
}

// waiting reports whether the call is still the newest in the queue.
func (c *call) waiting(p *pool) bool { return p.queue.len() > 0 && p.queue.newest() == c }

// grow starts instances as long as calls wait that no starting one will take and
// the scheduler agrees. The first instance is not the scheduler's to refuse.
func (s *Sim) grow(p *pool) {
	f := &s.functions[p.fn]
	for p.queue.len() > p.starting*f.concurrency {
		exists := len(p.all)+p.starting > 0
		if exists && (s.now < p.starved || !scheduler.ShouldStart(scheduler.ScaleInput{
			Queued: p.queue.len(), InFlight: p.inFlight, Instances: len(p.all), Starting: p.starting,
			Concurrency: f.concurrency, Service: time.Duration(p.meanRun), Cold: time.Duration(p.meanCold),
		})) {
			return
		}
		if !s.start(p) {
			if exists {
				s.starve(p)
			}
			return
		}
	}
}

// starve asks for memory again after a pause.
func (s *Sim) starve(p *pool) {
	p.starved = s.now + starvedPause
	if !p.waking {
		p.waking = true
		s.events.push(event{at: p.starved, kind: eventStarved, node: p.node.id, pool: p})
	}
}

// start begins to start an instance. It reports false when there is no memory.
func (s *Sim) start(p *pool) bool {
	n, f := p.node, &s.functions[p.fn]
	if !s.reserve(n, f.memory) {
		return false
	}
	p.starting++
	s.stats.count(s, &s.stats.starts, 1)
	in := &instance{p: p, asked: s.now, lastUsed: s.now, clock: n.inflation}
	s.begin(n, job{in: in}, f.cold)
	return true
}

// begin puts a job on the processors.
func (s *Sim) begin(n *node, j job, work int64) {
	n.advance(s.now)
	s.publish(n)
	s.serial++
	j.serial, j.begun = s.serial, s.now
	n.add(j, work)
	s.policy.changed(s, n)
	s.arm(n)
}

// arm makes the event of the node's next finished job.
func (s *Sim) arm(n *node) {
	n.gen++
	if len(n.jobs) > 0 {
		s.events.push(event{at: max(n.next(), s.now), kind: eventCPU, node: n.id, gen: n.gen})
	}
}

// run begins a call in a slot of an instance.
func (s *Sim) run(p *pool, in *instance, c *call, cold bool) {
	if in.busy == 0 {
		s.stats.busyMemory(s, s.functions[p.fn].memory)
	}
	in.busy++
	p.inFlight++
	p.calls++
	c.cold = c.cold || cold
	s.begin(p.node, job{call: c, in: in}, c.work)
}

// finished is called when a node's job is done.
func (s *Sim) finished(n *node, j *job) {
	p := j.in.p
	if j.call == nil {
		s.welcome(p, j.in)
		return
	}
	took := s.now - j.begun
	in := j.in
	in.busy--
	in.lastUsed, in.clock = s.now, n.inflation
	p.inFlight--
	p.meanRun = average(p.meanRun, took)
	if in.busy == 0 {
		s.stats.busyMemory(s, -s.functions[p.fn].memory)
	}
	if w := p.queue.pop(); w != nil {
		s.run(p, in, w, false)
		s.grow(p)
	} else {
		p.free = append(p.free, in)
		s.policy.freed(s, p, 0)
	}
	j.call.took = took
	s.answer(n, j.call)
}

// welcome puts a started instance into service: waiting calls first.
func (s *Sim) welcome(p *pool, in *instance) {
	f := &s.functions[p.fn]
	p.starting--
	p.meanCold = average(p.meanCold, s.now-in.asked)
	in.lastUsed = s.now
	p.all = append(p.all, in)
	if !p.listed {
		p.listed = true
		p.node.used = append(p.node.used, p)
	}
	if len(p.all) == 1 {
		s.warmth(p, true)
	}
	free := false
	for range f.concurrency {
		if w := p.queue.pop(); w != nil {
			w.coldCost = s.now - in.asked
			s.run(p, in, w, true)
		} else {
			p.free = append(p.free, in)
			free = true
		}
	}
	s.policy.ready(s, p)
	if free {
		s.policy.freed(s, p, s.now-in.asked)
	}
}

// average moves mean an eighth of the way to a new value.
func average(mean, value int64) int64 {
	if mean == 0 {
		return value
	}
	return mean + (value-mean)/8
}

func (p *pool) popFree() *instance {
	in := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return in
}

// reserve takes memory on a node, ending idle instances in the order of their
// priority as long as that is needed.
func (s *Sim) reserve(n *node, memory int64) bool {
	for n.memory+memory > n.budget {
		p, in, priority := s.victim(n)
		if in == nil {
			return false
		}
		s.end(p, in)
		s.stats.count(s, &s.stats.evictions, 1)
		n.inflation = max(n.inflation, priority)
	}
	n.memory += memory
	s.stats.memory(s, memory)
	return true
}

// victim is the idle instance that is worth the least.
func (s *Sim) victim(n *node) (*pool, *instance, float64) {
	var least *pool
	var victim *instance
	lowest := math.Inf(1)
	for _, p := range n.used {
		in := p.idlest()
		if in == nil {
			continue
		}
		f := &s.functions[p.fn]
		worth := in.clock + float64(p.calls)*float64(p.meanCold)/1e6/(float64(f.memory)/(1<<20))
		if worth < lowest {
			least, victim, lowest = p, in, worth
		}
	}
	return least, victim, lowest
}

// idlest is the instance without work that was used the longest time ago.
func (p *pool) idlest() *instance {
	// The free slots are in the order of their last use.
	for _, in := range p.free {
		if in.busy == 0 {
			return in
		}
	}
	return nil
}

// end ends an idle instance.
func (s *Sim) end(p *pool, in *instance) {
	n, f := p.node, &s.functions[p.fn]
	n.memory -= f.memory
	s.stats.memory(s, -f.memory)
	p.all = remove(p.all, in)
	p.free = slices.DeleteFunc(p.free, func(i *instance) bool { return i == in })
	if len(p.all) == 0 {
		s.warmth(p, false)
		p.calls = 0
		p.listed = false
		n.used = remove(n.used, p)
	}
	s.policy.ended(s, p)
}

func remove[T comparable](list []T, x T) []T {
	i := slices.Index(list, x)
	list[i] = list[len(list)-1]
	var zero T
	list[len(list)-1] = zero
	return list[:len(list)-1]
}

// reap ends what was idle for too long.
func (s *Sim) reap(n *node) {
	for i := len(n.used) - 1; i >= 0; i-- {
		p := n.used[i]
		for {
			in := p.idlest()
			if in == nil || s.now-in.lastUsed < int64(s.cfg.TTL) {
				break
			}
			s.end(p, in)
		}
	}
}

// callQueue is a queue of calls that grows and is compacted as it moves on.
type callQueue struct {
	list []*call
	head int
}

func (q *callQueue) len() int      { return len(q.list) - q.head }
func (q *callQueue) newest() *call { return q.list[len(q.list)-1] }
func (q *callQueue) push(c *call)  { q.list = append(q.list, c) }

func (q *callQueue) popNewest() *call {
	c := q.list[len(q.list)-1]
	q.list = q.list[:len(q.list)-1]
	return c
}

func (q *callQueue) pop() *call {
	if q.len() == 0 {
		return nil
	}
	c := q.list[q.head]
	q.list[q.head] = nil
	q.head++
	switch {
	case q.head == len(q.list):
		q.list, q.head = q.list[:0], 0
	case q.head > 64 && q.head > len(q.list)/2:
		n := copy(q.list, q.list[q.head:])
		q.list, q.head = q.list[:n], 0
	}
	return c
}
