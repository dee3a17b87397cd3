package executor

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/internal/fairshare"
	"github.com/covey-dev/covey/internal/keepalive"
)

// ledger shares the node's memory among instances. Each one takes its limit from
// the decision to start it until nothing of it is left, so that the instances of
// a node can never need more than the budget. Idle ones are what gives way.
type ledger struct {
	budget int64

	mu     sync.Mutex
	used   int64                 // guarded by mu
	shares fairshare.Shares[Key] // guarded by mu; who holds and who waits for memory
	// yielding is what instances hold that end for those who wait.
	yielding int64 // guarded by mu

	// contended counts the versions that wait for memory. It may count some for a
	// moment that do not wait any more.
	contended atomic.Int32

	aging keepalive.Clock // guarded by mu
	// aged is a copy of aging, as the bits of a float64, for the path of a call.
	aged atomic.Uint64
}

// reserve takes n bytes for key. Without them it tells whether it is for key to
// make room, and not for another version that waits and has had less.
func (l *ledger) reserve(key Key, n int64, now time.Time) (taken, next bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.shares.Before(key, float64(n), now) {
		return false, false
	}
	if l.used+n > l.budget {
		return false, true
	}
	l.used += n
	l.shares.Hold(key, float64(n), now)
	l.wantLocked(key, 0, now)
	return true, true
}

// release gives n bytes back that key had.
func (l *ledger) release(key Key, n int64, yielded bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
	l.shares.Hold(key, -float64(n), now)
	if yielded {
		l.yielding -= n
	}
}

// want says that calls of key wait for n bytes; 0 takes that back. It has to be
// repeated every second.
func (l *ledger) want(key Key, n int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wantLocked(key, n, now)
}

func (l *ledger) wantLocked(key Key, n int64, now time.Time) {
	if n > 0 || l.contended.Load() > 0 {
		l.shares.Want(key, float64(n), now)
		l.contended.Store(int32(l.shares.Waiting(now)))
	}
}

// tidy forgets those who neither hold nor want anything any more.
func (l *ledger) tidy(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shares.Forget(now)
	l.contended.Store(int32(l.shares.Waiting(now)))
}

// next returns the version that waits and has had the least.
func (l *ledger) next(now time.Time) (Key, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key, wants := l.shares.First(now)
	return key, wants > 0
}

// yields tells whether an instance of key, with n bytes, should end for a version
// that waits and has had less. No more do than that one needs.
func (l *ledger) yields(key Key, n int64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, wants := l.shares.First(now)
	coming := l.budget - l.used + l.yielding
	if float64(coming) >= wants || !l.shares.Yields(key, now) {
		return false
	}
	l.yielding += n
	return true
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
// when all that is left is in use or kept warm on purpose, or due to others first.
func (e *Executor) reserve(ctx context.Context, key Key, memory int64) bool {
	for {
		taken, next := e.memory.reserve(key, memory, time.Now())
		if taken || !next {
			return taken
		}
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
