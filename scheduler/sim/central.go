package sim

import (
	"time"

	"github.com/covey-dev/covey/scheduler"
)

// central is the bound: one queue that knows everything at once and whose
// messages are free. Starts, memory and processors cost it what they cost
// everybody. It binds a call only to a slot that is free now.
type central struct {
	plain
	// levels holds the nodes by their number of jobs, and position where each is.
	levels   [][]int32
	level    []int
	position []int
	fns      []centralFunction
}

// centralFunction is one function over all nodes.
type centralFunction struct {
	queue     callQueue
	free      []*pool // with a free slot when they were added
	listed    map[*pool]bool
	instances int
	starting  int
	inFlight  int
	meanRun   int64
}

func newCentral(s *Sim) (policy, error) {
	p := &central{
		levels: make([][]int32, 1), level: make([]int, len(s.nodes)), position: make([]int, len(s.nodes)),
		fns: make([]centralFunction, len(s.functions)),
	}
	for i := range p.fns {
		p.fns[i].listed = map[*pool]bool{}
	}
	for i := range s.nodes {
		p.position[i] = i
		p.levels[0] = append(p.levels[0], int32(i))
	}
	return p, nil
}

// changed moves a node to the level of its jobs.
func (p *central) changed(_ *Sim, n *node) {
	to := len(n.jobs)
	if !n.up {
		to = 1 << 12 // behind everybody
	}
	from := p.level[n.id]
	if from == to {
		return
	}
	for len(p.levels) <= to {
		p.levels = append(p.levels, nil)
	}
	list, at := p.levels[from], p.position[n.id]
	last := list[len(list)-1]
	list[at] = last
	p.position[last] = at
	p.levels[from] = list[:len(list)-1]
	p.level[n.id], p.position[n.id] = to, len(p.levels[to])
	p.levels[to] = append(p.levels[to], n.id)
}

// stretch is how much longer one more job would take on a node.
func stretch(n *node) float64 { return max(float64(len(n.jobs)+1)/n.cpus, 1) }

// warmest returns the free slot on the least loaded node.
func (p *central) warmest(f *centralFunction) *pool {
	var best *pool
	for i := 0; i < len(f.free); {
		q := f.free[i]
		if len(q.free) == 0 || !q.node.up {
			delete(f.listed, q)
			f.free[i] = f.free[len(f.free)-1]
			f.free = f.free[:len(f.free)-1]
			continue
		}
		if best == nil || len(q.node.jobs) < len(best.node.jobs) {
			best = q
		}
		i++
	}
	return best
}

// coldest returns the least loaded node with memory for a start: free if
// possible, else held by idle instances.
func (p *central) coldest(s *Sim, memory int64) *node {
	const most = 16 // nodes of a level that are looked at
	for _, list := range p.levels[:min(len(p.levels), 1<<12)] {
		var idle *node
		offset := s.random.below(max(len(list), 1))
		for i := range min(len(list), most) {
			n := &s.nodes[list[(offset+i)%len(list)]]
			if n.memory+memory <= n.budget {
				return n
			}
			if idle == nil {
				if _, in, _ := s.victim(n); in != nil {
					idle = n
				}
			}
		}
		if idle != nil {
			return idle
		}
	}
	return nil
}

func (p *central) place(s *Sim, c *call) int32 {
	f := &p.fns[c.fn]
	warm := p.warmest(f)
	if warm != nil {
		run := float64(c.work)
		cost := run * stretch(warm.node)
		if stretch(warm.node) == 1 {
			return p.run(f, warm)
		}
		cold := p.coldest(s, s.functions[c.fn].memory)
		if cold == nil || cost <= (run+float64(s.functions[c.fn].cold))*stretch(cold) {
			return p.run(f, warm)
		}
	}
	f.queue.push(c)
	p.grow(s, c.fn, warm != nil)
	return held
}

func (p *central) run(f *centralFunction, q *pool) int32 {
	f.inFlight++
	return q.node.id
}

// grow starts instances by the scheduler's own rule, applied to the cluster as if
// it were one node, and where a start is free of cost. must says that it was found
// to be worth its cost.
func (p *central) grow(s *Sim, fn int32, must bool) {
	f, g := &p.fns[fn], &s.functions[fn]
	for f.queue.len() > 0 {
		agreed := scheduler.ShouldStart(scheduler.ScaleInput{
			Queued: f.queue.len(), InFlight: f.inFlight, Instances: f.instances, Starting: f.starting,
			Concurrency: g.concurrency, Service: time.Duration(f.meanRun), Cold: time.Duration(g.cold),
		})
		uncovered := f.queue.len() > f.starting*g.concurrency
		n := p.coldest(s, g.memory)
		// Where a processor lies idle a start costs idle memory at most, and the
		// call takes whatever comes first.
		spare := n != nil && float64(len(n.jobs)) < n.cpus
		if !agreed && !(uncovered && (must || spare)) {
			return
		}
		must = false
		if n == nil || !s.start(s.pool(n, fn)) {
			if f.instances+f.starting == 0 {
				s.events.push(event{at: s.now + starvedPause, kind: eventPolicy, node: fn})
			}
			return
		}
		f.starting++
	}
}

// event asks for memory again.
func (p *central) event(s *Sim, e *event) { p.grow(s, e.node, false) }

// freed gives a slot to the longest waiting call.
func (p *central) freed(s *Sim, q *pool, cold int64) {
	f := &p.fns[q.fn]
	for len(q.free) > 0 {
		c := f.queue.pop()
		if c == nil {
			break
		}
		f.inFlight++
		c.node, c.sends, c.coldCost, c.broken = q.node.id, 1, cold, false
		s.run(q, q.popFree(), c, cold > 0)
	}
	if len(q.free) > 0 && !f.listed[q] {
		f.listed[q] = true
		f.free = append(f.free, q)
	}
}

func (p *central) ready(_ *Sim, q *pool) {
	p.fns[q.fn].starting--
	p.fns[q.fn].instances++
}

func (p *central) ended(_ *Sim, q *pool) { p.fns[q.fn].instances-- }

func (p *central) failed(_ *Sim, q *pool) {
	f := &p.fns[q.fn]
	f.instances -= len(q.all)
	f.starting -= q.starting
}

func (p *central) answered(_ *Sim, c *call, refused bool) {
	f := &p.fns[c.fn]
	f.inFlight--
	if !refused {
		f.meanRun = average(f.meanRun, c.took)
	}
}
