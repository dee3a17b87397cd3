package executor

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// ledger shares the node's memory among instances. Each one takes its limit from
// the decision to start it until nothing of it is left, so that the instances of
// a node can never need more than the budget. Idle ones are what gives way.
type ledger struct {
	budget int64

	mu   sync.Mutex
	used int64 // guarded by mu

	// inflation is GreedyDual's clock, as the bits of a float64: the priority of
	// the last instance that gave way. What is used later starts above it, which
	// is how the frequency of long ago loses its weight.
	inflation atomic.Uint64
}

// reserve takes n bytes and reports whether they were there.
func (l *ledger) reserve(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used+n > l.budget {
		return false
	}
	l.used += n
	return true
}

// release gives n bytes back.
func (l *ledger) release(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
}

// inUse returns what is reserved, which is 0 only when no instance is left.
func (l *ledger) inUse() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

func (l *ledger) clock() float64     { return math.Float64frombits(l.inflation.Load()) }
func (l *ledger) setClock(v float64) { l.inflation.Store(math.Float64bits(v)) }

// priority is the greedy-dual-size-frequency value of keeping an instance: the
// clock at its last use plus how often the version is called, times what a start
// costs, per MiB kept.
func priority(clock float64, calls uint64, cold time.Duration, memory int64) float64 {
	return clock + float64(calls)*cold.Seconds()*1e3/(float64(memory)/(1<<20))
}

// reserve takes memory for an instance, ending idle instances of other versions
// in the order of their priority as long as that is needed. It reports false
// when all that is left is in use or kept warm on purpose.
func (e *Executor) reserve(ctx context.Context, memory int64) bool {
	for !e.memory.reserve(memory) {
		victim := e.victim()
		if victim == nil {
			return false
		}
		select {
		case <-victim.dead:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// victim ends the idle instance that is worth the least, or returns nil.
func (e *Executor) victim() *instance {
	for {
		var least *pool
		lowest := math.Inf(1)
		for _, p := range *e.pools.Load() {
			if v, ok := p.idlePriority(); ok && v < lowest {
				least, lowest = p, v
			}
		}
		if least == nil {
			return nil
		}
		// A call may have taken it meanwhile; then look again.
		if in := least.evict(); in != nil {
			e.memory.setClock(max(e.memory.clock(), lowest))
			return in
		}
	}
}
