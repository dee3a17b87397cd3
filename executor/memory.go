package executor

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/covey-dev/covey/internal/keepalive"
)

// ledger shares the node's memory among instances. Each one takes its limit from
// the decision to start it until nothing of it is left, so that the instances of
// a node can never need more than the budget. Idle ones are what gives way.
type ledger struct {
	budget int64

	mu   sync.Mutex
	used int64 // guarded by mu

	aging keepalive.Clock // guarded by mu
	// aged is a copy of aging, as the bits of a float64, for the path of a call.
	aged atomic.Uint64
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

// clock is the keep-alive policy's.
func (l *ledger) clock() keepalive.Clock { return keepalive.Clock(math.Float64frombits(l.aged.Load())) }

// evicted tells the policy what the instance was worth that gave way.
func (l *ledger) evicted(priority float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aging.Evicted(priority)
	l.aged.Store(math.Float64bits(float64(l.aging)))
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
			e.memory.evicted(lowest)
			return in
		}
	}
}
