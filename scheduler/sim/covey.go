package sim

import (
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/scheduler"
)

// covey is the real scheduler, one per entry.
type covey struct {
	plain
	epoch    time.Time
	members  []scheduler.Node
	index    map[state.NodeID]int32
	versions []*state.Version
	entries  []*coveyEntry // by node; nil where nothing enters
	exclude  []state.NodeID
}

// coveyEntry is a node's scheduler and how much of each function's gossip it has
// heard. Hearing is delayed until the scheduler is asked about the function,
// which makes no difference to its answer.
type coveyEntry struct {
	sched *scheduler.Scheduler
	heard []int32
}

func newCovey(s *Sim) (policy, error) {
	p := &covey{epoch: time.Now(), index: map[state.NodeID]int32{}, entries: make([]*coveyEntry, len(s.nodes))}
	for i := range s.nodes {
		id := state.NodeID(fmt.Sprintf("node-%05d", i))
		p.index[id] = int32(i)
		p.members = append(p.members, scheduler.Node{Usable: true, Member: &state.Member{
			ID: id, OS: "linux", Arch: "amd64", CPUs: s.cfg.CPUs, Runtimes: []string{"go"}, SandboxLevel: 1,
		}})
	}
	for i := range s.functions {
		key := state.VersionKey{App: "default", Function: state.FunctionName(fmt.Sprintf("f%d", i)), Number: 1}
		p.versions = append(p.versions, &state.Version{Key: key, Hash: key.Hash(), Config: &clusterpb.VersionConfig{
			Runtime: "go", Concurrency: uint32(s.functions[i].concurrency),
			Artifacts: []*clusterpb.Artifact{{Os: "linux", Arch: "amd64"}},
		}})
	}
	rings := new(scheduler.Rings)
	for _, e := range s.entries {
		cfg := scheduler.DefaultConfig()
		cfg.Self = p.members[e].Member.ID
		cfg.Rings = rings
		cfg.Seed = s.random.next() | 1
		sched, err := scheduler.New(cfg)
		if err != nil {
			return nil, err
		}
		sched.SetNodes(p.members)
		p.entries[e] = &coveyEntry{sched: sched, heard: make([]int32, len(s.functions))}
	}
	return p, nil
}

func (p *covey) time(now int64) time.Time { return p.epoch.Add(time.Duration(now)) }

// hear passes on the announcements about a function that have come by now.
func (p *covey) hear(s *Sim, entry, fn int32) {
	e := p.entries[entry]
	log := s.gossip.warm[fn]
	for int(e.heard[fn]) < len(log) && log[e.heard[fn]].at+s.gossip.offset[entry] <= s.now {
		w := log[e.heard[fn]]
		e.heard[fn]++
		if w.node != entry {
			e.sched.SetWarm(p.members[w.node].Member.ID, p.versions[fn].Hash, w.warm)
		}
	}
}

func (p *covey) place(s *Sim, c *call) int32 {
	p.hear(s, c.entry, c.fn)
	p.exclude = p.exclude[:0]
	hops := 0
	for _, n := range c.tried[:c.sends] {
		p.exclude = append(p.exclude, p.members[n].Member.ID)
		if n != c.entry {
			hops++
		}
	}
	e := p.entries[c.entry]
	d, err := e.sched.Place(&scheduler.Query{
		Version: p.versions[c.fn], Local: s.peek(&s.nodes[c.entry], c.fn),
		Hops: hops, Exclude: p.exclude, Now: p.time(s.now),
	})
	if err != nil {
		return nowhere
	}
	e.sched.Sent(d)
	c.note, c.must = d, d.Must
	return p.index[d.Node]
}

func (p *covey) answered(s *Sim, c *call, refused bool) {
	e := p.entries[c.entry]
	out := scheduler.Outcome{Load: &c.load, Refused: refused}
	if refused {
		if c.broken {
			out.Load = nil
			e.sched.SetLink(p.members[c.node].Member.ID, false)
		}
	} else {
		out.Took, out.Cold = time.Duration(c.took), time.Duration(c.coldCost)
	}
	e.sched.Done(c.note.(scheduler.Decision), out, p.time(s.now))
}

// accepts is what a node asks before it takes a call that was sent to it.
func (p *covey) accepts(s *Sim, n *node, c *call) bool {
	return n.id == c.entry || scheduler.ShouldTake(s.peek(n, c.fn), int(n.cpus), c.must)
}

func (p *covey) membership(_ *Sim, n int32, up bool) {
	p.members[n].Usable = up
	for _, e := range p.entries {
		if e != nil {
			e.sched.SetNodes(p.members)
			if up {
				e.sched.SetLink(p.members[n].Member.ID, true)
			}
		}
	}
}
