package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/scheduler/sim/workload"
)

// Config is one run. All fields but Failures, FailFor and Entries are required;
// DefaultConfig fills in all but Workload and Policy.
type Config struct {
	Workload workload.Workload
	Policy   Policy

	// Nodes is the size of the cluster. Each has CPUs processors and Memory bytes
	// for instances.
	Nodes  int
	CPUs   int
	Memory int64
	// Entries is how many nodes, evenly spread, take calls from clients; 0 means
	// all. Each has a scheduler of its own, which costs the simulation memory.
	Entries int

	// Hop is how long a message takes one way.
	Hop time.Duration
	// Staleness is how old gossip is: announcements of warm functions take half of
	// it to one and a half, and loads are published that seldom.
	Staleness time.Duration

	// Queue is how many calls of a function may wait on a node.
	Queue int
	// TTL is how long an idle instance is kept when memory is not short.
	TTL time.Duration
	// Warmup is the part of the workload's length that is not measured, in [0,1).
	Warmup float64

	// Failures is how many nodes die while it is measured, each for FailFor; gossip
	// tells of it after DeadAfter.
	Failures  int
	FailFor   time.Duration
	DeadAfter time.Duration

	// Seed decides everything that is random outside of the workload.
	Seed uint64
}

// DefaultConfig returns the settings of the published table without workload and
// policy.
func DefaultConfig() Config {
	return Config{
		Nodes: 1000, CPUs: 4, Memory: 8 << 30,
		Hop: 50 * time.Microsecond, Staleness: time.Second,
		Queue: 128, TTL: 600 * time.Second, Warmup: 0.25,
		FailFor: 10 * time.Second, DeadAfter: 3 * time.Second, Seed: 1,
	}
}

// Validate reports every field that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Workload.Calls != nil, "Workload: has no calls")
	check(c.Policy.build != nil, "Policy: missing")
	check(c.Nodes > 0, "Nodes: %d is not positive", c.Nodes)
	check(c.CPUs > 0, "CPUs: %d is not positive", c.CPUs)
	check(c.Entries >= 0 && c.Entries <= c.Nodes, "Entries: %d is not in [0,Nodes]", c.Entries)
	check(c.Hop >= 0, "Hop: %v is negative", c.Hop)
	check(c.Staleness >= 0, "Staleness: %v is negative", c.Staleness)
	check(c.Queue > 0, "Queue: %d is not positive", c.Queue)
	check(c.TTL > 0, "TTL: %v is not positive", c.TTL)
	check(c.Warmup >= 0 && c.Warmup < 1, "Warmup: %v is not in [0,1)", c.Warmup)
	check(c.Failures >= 0 && c.Failures < c.Nodes, "Failures: %d is not in [0,Nodes)", c.Failures)
	for i, f := range c.Workload.Functions {
		check(f.Memory > 0 && f.Memory <= c.Memory, "Workload: function %d needs %d bytes of %d", i, f.Memory, c.Memory)
	}
	return errors.Join(errs...)
}

const (
	// maxSends bounds how many nodes are asked about one call, as in node/invoke.
	maxSends = 6
	// retryAfter is when a client that was sent away comes back.
	retryAfter = int64(time.Second)
	// nowhere and held are what a policy answers instead of a node: no node may be
	// asked, or the policy keeps the call for now.
	nowhere, held = int32(-1), int32(-2)
)

// call is one call on its way.
type call struct {
	at       int64 // when it came first
	work     int64
	took     int64
	coldCost int64
	fn       int32
	entry    int32
	node     int32
	sends    int
	tried    [maxSends]int32
	load     load
	cold     bool
	broken   bool
	must     bool
	bound    bool
	note     any // the policy's
}

// function is what the engine needs of one.
type function struct {
	cold, memory int64
	concurrency  int
}

// Sim is one run. It is not safe for concurrent use.
type Sim struct {
	cfg       Config
	functions []function
	nodes     []node
	entries   []int32
	policy    policy
	events    events
	now       int64
	serial    uint64
	random    random
	stats     stats
	gossip    gossip
	spare     []*call
	open      int // calls that are not answered yet
	ended     bool
}

// Run simulates the whole workload, lets what is under way finish, and reports.
func Run(cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure simulation: %w", err)
	}
	s := &Sim{cfg: cfg, random: random(cfg.Seed)}
	for _, f := range cfg.Workload.Functions {
		s.functions = append(s.functions, function{cold: int64(f.Cold), memory: f.Memory, concurrency: max(f.Concurrency, 1)})
	}
	s.nodes = make([]node, cfg.Nodes)
	for i := range s.nodes {
		s.nodes[i] = node{
			id: int32(i), cpus: float64(cfg.CPUs), up: true, budget: cfg.Memory,
			pools: make([]*pool, len(s.functions)),
		}
	}
	entries := cfg.Entries
	if entries == 0 {
		entries = cfg.Nodes
	}
	for i := range entries {
		s.entries = append(s.entries, int32(i*cfg.Nodes/entries))
	}
	s.gossip = newGossip(s)
	s.stats = newStats(&s.cfg)
	s.planFailures()
	var err error
	if s.policy, err = cfg.Policy.build(s); err != nil {
		return nil, fmt.Errorf("build policy %s: %w", cfg.Policy.Name, err)
	}
	s.events.push(event{at: s.stats.from, kind: eventTick})
	cfg.Workload.Calls(func(in workload.Call) bool {
		s.until(int64(in.At))
		s.now = int64(in.At)
		c := s.call()
		c.at, c.work, c.fn = s.now, max(int64(in.Run), 1), int32(in.Function)
		s.open++
		s.arrive(c)
		return true
	})
	s.drain()
	return s.stats.report(s), nil
}

// call returns an empty one.
func (s *Sim) call() *call {
	if n := len(s.spare); n > 0 {
		c := s.spare[n-1]
		s.spare = s.spare[:n-1]
		*c = call{}
		return c
	}
	return new(call)
}

// until handles the events up to a time.
func (s *Sim) until(t int64) {
	for len(s.events.list) > 0 && s.events.list[0].at <= t {
		e := s.events.pop()
		s.now = e.at
		s.handle(&e)
	}
}

// drain lets the calls that are open finish. Its end is bounded, since a policy
// that holds a call for ever would otherwise stop the simulation.
func (s *Sim) drain() {
	s.ended = true
	s.stats.close(s)
	limit := int64(s.cfg.Workload.Length) + int64(time.Hour)
	for s.open > 0 && len(s.events.list) > 0 && s.now < limit {
		e := s.events.pop()
		s.now = e.at
		s.handle(&e)
	}
	s.stats.lost = s.open
}

func (s *Sim) handle(e *event) {
	switch e.kind {
	case eventCPU:
		s.work(&s.nodes[e.node], e.gen)
	case eventDeliver:
		s.deliver(e.call)
	case eventReply:
		s.reply(e.call)
	case eventRefused:
		s.refused(e.call)
	case eventArrive:
		s.arrive(e.call)
	case eventStarved:
		e.pool.waking = false
		if e.pool.queue.len() > 0 && s.nodes[e.node].up {
			s.grow(e.pool)
		}
	case eventFail:
		s.fail(&s.nodes[e.node])
	case eventRecover:
		s.recover(&s.nodes[e.node])
	case eventTick:
		s.tick()
	case eventPolicy:
		s.policy.event(s, e)
	}
}

// tick happens once a second of virtual time.
func (s *Sim) tick() {
	if s.ended {
		return
	}
	s.stats.sample(s)
	for i := range s.nodes {
		s.reap(&s.nodes[i])
	}
	s.events.push(event{at: s.now + int64(time.Second), kind: eventTick})
}

// work finishes the jobs of a node that are done.
func (s *Sim) work(n *node, gen uint32) {
	if gen != n.gen || !n.up {
		return
	}
	n.advance(s.now)
	s.publish(n)
	for n.done() {
		j := n.take()
		s.finished(n, &j)
	}
	s.policy.changed(s, n)
	s.arm(n)
}

// arrive lets a call into the cluster through a random entry.
func (s *Sim) arrive(c *call) {
	for range 100 {
		c.entry = s.entries[s.random.below(len(s.entries))]
		if s.nodes[c.entry].up {
			break
		}
	}
	c.sends = 0
	s.place(c)
}

// place asks the policy, and sends the call where that says.
func (s *Sim) place(c *call) {
	to := nowhere
	if c.sends < maxSends {
		to = s.policy.place(s, c)
	}
	switch to {
	case held:
	case nowhere:
		s.stats.count(s, &s.stats.busy, 1)
		s.events.push(event{at: s.now + retryAfter, kind: eventArrive, call: c})
	default:
		s.send(c, to)
	}
}

// send moves a call to a node.
func (s *Sim) send(c *call, to int32) {
	if c.sends > 0 {
		s.stats.count(s, &s.stats.forwards, 1)
	}
	c.node, c.broken = to, false
	c.tried[c.sends] = to
	c.sends++
	if to == c.entry || s.cfg.Policy.free {
		s.deliver(c)
		return
	}
	s.stats.count(s, &s.stats.messages, 2) // the call, and later its answer
	s.events.push(event{at: s.now + int64(s.cfg.Hop), kind: eventDeliver, call: c})
}

// deliver gives the call to its node.
func (s *Sim) deliver(c *call) {
	n := &s.nodes[c.node]
	if n.up && s.policy.accepts(s, n, c) && s.submit(n, c) {
		return
	}
	c.broken = !n.up
	if n.up {
		c.load = s.peek(n, c.fn)
		s.stats.count(s, &s.stats.refusals, 1)
	}
	s.back(c, eventRefused)
}

// answer takes a finished call's answer on its way.
func (s *Sim) answer(n *node, c *call) {
	c.load = s.peek(n, c.fn)
	s.back(c, eventReply)
}

// back sends something back to the entry.
func (s *Sim) back(c *call, kind eventKind) {
	at := s.now
	if c.node != c.entry && !s.cfg.Policy.free {
		at += int64(s.cfg.Hop)
	}
	s.events.push(event{at: at, kind: kind, call: c})
}

// reply ends a call, unless nobody is left to pass the answer on.
func (s *Sim) reply(c *call) {
	if !s.nodes[c.entry].up && !s.cfg.Policy.free {
		s.arrive(c) // the client tries another entry
		return
	}
	s.policy.answered(s, c, false)
	s.stats.done(s, c)
	s.open--
	s.spare = append(s.spare, c)
}

// refused tries again elsewhere.
func (s *Sim) refused(c *call) {
	s.policy.answered(s, c, true)
	if c.broken {
		s.gossip.cut(c.entry, c.node)
		s.stats.count(s, &s.stats.broken, 1)
	}
	if !s.nodes[c.entry].up {
		s.arrive(c)
		return
	}
	s.place(c)
}

// wasTried reports whether a node was asked about this call already.
func (c *call) wasTried(n int32) bool {
	for _, t := range c.tried[:c.sends] {
		if t == n {
			return true
		}
	}
	return false
}

// random is splitmix64.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// below returns a number in [0, n).
func (r *random) below(n int) int { return int((r.next() >> 33) * uint64(n) >> 31) }
