package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/covey-dev/covey/cluster/state"
)

// shardCount splits the map of functions so that placements of different
// functions seldom meet.
const shardCount = 64

// Scheduler holds what one node knows for its placements.
type Scheduler struct {
	cfg      Config
	self     *node
	registry registry
	table    atomic.Pointer[table]
	shards   [shardCount]shard
	// base anchors the times that come in, so that they fit an integer and keep
	// their monotonic reading.
	base time.Time
}

type shard struct {
	mu        sync.RWMutex
	functions map[uint64]*function
}

// New returns a Scheduler that knows no node yet.
func New(cfg Config) (*Scheduler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure scheduler: %w", err)
	}
	if cfg.Seed == 0 {
		cfg.Seed = xxhash.Sum64String(string(cfg.Self))
	}
	s := &Scheduler{cfg: cfg, base: time.Now(), registry: registry{byID: map[state.NodeID]*node{}}}
	for i := range s.shards {
		s.shards[i].functions = map[uint64]*function{}
	}
	s.self = s.registry.intern(cfg.Self)
	s.table.Store(s.newTable(nil))
	return s, nil
}

// SetWarm records that a node announced the version with that hash as warm, or
// as not warm any more. Nodes and versions that are not known yet are
// remembered.
func (s *Scheduler) SetWarm(id state.NodeID, hash uint64, warm bool) {
	n := s.registry.intern(id)
	f := s.function(hash)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setWarmLocked(n.index, warm)
}

// Idle records that a node pushed an idle token for a version.
func (s *Scheduler) Idle(id state.NodeID, hash uint64, now time.Time) {
	n := s.registry.intern(id)
	f := s.function(hash)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pushTokenLocked(n.index, s.nanos(now))
}

// Sent records that a call goes where the decision said. Each Sent needs one
// Done.
func (s *Scheduler) Sent(d Decision) {
	d.function.mu.Lock()
	defer d.function.mu.Unlock()
	d.function.estimates.add(d.index).sent++
	d.function.sent++
}

// Done records how a call that was sent ended.
func (s *Scheduler) Done(d Decision, out Outcome, now time.Time) {
	f, at := d.function, s.nanos(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.estimates.add(d.index)
	e.sent--
	f.sent--
	if out.Refused {
		e.full, e.at = true, at
	}
	if out.Took > 0 {
		f.took = blend(f.took, float64(out.Took))
	}
	if out.Cold > 0 {
		f.cold = blend(f.cold, float64(out.Cold))
	}
	if l := out.Load; l != nil {
		if n := s.table.Load().at(d.index); n != nil && n != s.self {
			n.busy.Store(int32(l.Busy))
			n.heard.Store(at)
		}
		load := float64(l.InFlight + l.Queued)
		e.others, e.at = max(load-float64(e.sent), 0), at
		e.instances, e.full = int32(l.Instances), l.Full
		f.mean = blend(f.mean, load)
		for range min(l.Idle, tokenMax) {
			f.pushTokenLocked(d.index, at)
		}
	}
}

// blend moves a mean towards a new value; the first value is the mean.
func blend(mean, value float64) float64 {
	if mean == 0 {
		return value
	}
	return mean + durationWeight*(value-mean)
}

// Estimates returns the mean run time and cold-start cost of a version as this
// node saw them, zero when it saw none. They feed ScaleInput.
func (s *Scheduler) Estimates(hash uint64) (took, cold time.Duration) {
	f := s.function(hash)
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(f.took), time.Duration(f.cold)
}

func (s *Scheduler) nanos(now time.Time) int64 { return int64(now.Sub(s.base)) }

// function returns the state of a version, making it when it is new.
func (s *Scheduler) function(hash uint64) *function {
	sh := &s.shards[hash%shardCount]
	sh.mu.RLock()
	f := sh.functions[hash]
	sh.mu.RUnlock()
	if f != nil {
		return f
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if f = sh.functions[hash]; f == nil {
		if len(sh.functions) >= s.cfg.FunctionsMax/shardCount {
			sh.forgetLocked()
		}
		f = newFunction(hash, s.cfg.Seed)
		sh.functions[hash] = f
	}
	return f
}

// forgetLocked drops the longest unused quarter of the functions that have
// nothing under way. A caller that still holds one finishes with it harmlessly.
func (sh *shard) forgetLocked() {
	type aged struct {
		hash uint64
		last int64
	}
	var idle []aged
	for hash, f := range sh.functions {
		f.mu.Lock()
		if f.sent == 0 {
			idle = append(idle, aged{hash, f.last})
		}
		f.mu.Unlock()
	}
	slices.SortFunc(idle, func(a, b aged) int { return cmp.Compare(a.last, b.last) })
	for _, a := range idle[:(len(idle)+3)/4] {
		delete(sh.functions, a.hash)
	}
}
