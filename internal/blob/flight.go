package blob

import (
	"context"
	"sync"
)

// flightKind separates the loads of one digest: a load with a fetch contains
// one that only verifies.
type flightKind uint8

const (
	flightVerify flightKind = iota
	flightFetch
)

// flightKey names a load.
type flightKey struct {
	digest Digest
	kind   flightKind
}

// flights lets callers that want the same load share one. A load is cancelled
// when the last of its callers has gone.
type flights struct {
	base context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	active map[flightKey]*flight
	closed bool
}

// flight is one load under way. Its goroutine ends when load returns, which it
// does soon after cancel.
type flight struct {
	done    chan struct{}
	err     error // written before done is closed
	cancel  context.CancelFunc
	waiters int // guarded by flights.mu
}

func (g *flights) init() {
	g.base, g.stop = context.WithCancel(context.Background())
	g.active = map[flightKey]*flight{}
}

// close cancels every load and waits for them to end.
func (g *flights) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	g.wg.Wait()
}

// do runs load, or joins the one that is running, and returns when it ends or
// ctx does.
func (g *flights) do(ctx context.Context, key flightKey, load func(context.Context) error) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	fl := g.active[key]
	if fl == nil {
		fl = g.startLocked(key, load)
	}
	fl.waiters++
	g.mu.Unlock()

	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	if fl.waiters--; fl.waiters == 0 {
		fl.cancel()
		// Who comes next must not join a load that is being cancelled.
		g.removeLocked(key, fl)
	}
	g.mu.Unlock()
	return ctx.Err()
}

// startLocked begins a load on a goroutine that close waits for. The load is
// taken off the table before its waiters wake, so that none of them joins it
// again.
func (g *flights) startLocked(key flightKey, load func(context.Context) error) *flight {
	ctx, cancel := context.WithCancel(g.base)
	fl := &flight{done: make(chan struct{}), cancel: cancel}
	g.active[key] = fl
	g.wg.Go(func() {
		defer cancel()
		fl.err = load(ctx)
		g.mu.Lock()
		g.removeLocked(key, fl)
		g.mu.Unlock()
		close(fl.done)
	})
	return fl
}

// removeLocked takes fl off the table unless another load has its place by now.
func (g *flights) removeLocked(key flightKey, fl *flight) {
	if g.active[key] == fl {
		delete(g.active, key)
	}
}
