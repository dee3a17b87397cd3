package group

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// leadership turns Raft's notifications into contexts. Raft blocks until its
// notification is taken, so they are drained at once, whatever the work does.
type leadership struct {
	notify chan bool // written by Raft's main loop; drained from birth to close
	done   chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex
	works  []func(context.Context)
	epoch  uint64 // counts the leaderships of this node
	leads  bool
	lost   chan struct{} // closed when the current leadership ends
	signal chan struct{} // capacity 1: something changed
}

// newLeadership begins to drain at once, because Raft may notify before Run.
func newLeadership() *leadership {
	l := &leadership{
		notify: make(chan bool, 16), // so that a burst never waits for the scheduler
		done:   make(chan struct{}),
		signal: make(chan struct{}, 1),
	}
	l.wg.Go(l.drain)
	return l
}

// close stops draining. Raft must have ended before, or it would block.
func (l *leadership) close() {
	close(l.done)
	l.wg.Wait()
}

// drain ends with close.
func (l *leadership) drain() {
	for {
		select {
		case leads := <-l.notify:
			l.set(leads)
		case <-l.done:
			return
		}
	}
}

// set records a notification. It only takes a lock that is never held for long.
func (l *leadership) set(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leads {
		// Also when Raft says "leader" twice: it was lost in between.
		close(l.lost)
	}
	l.leads = leads
	if leads {
		l.epoch++
		l.lost = make(chan struct{})
	}
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// current returns the number of the present leadership, its end, and whether
// there is one.
func (l *leadership) current() (epoch uint64, lost <-chan struct{}, leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, l.lost, l.leads
}

// add registers work for the leaderships to come.
func (l *leadership) add(work func(context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.works = append(l.works, work)
}

// all returns a copy, so that work may be registered while other work runs.
func (l *leadership) all() []func(context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.works)
}

// run runs all works once per leadership. Those of one leadership have returned
// before those of the next start. ready is called first and says whether the
// leadership is worth starting on.
func (l *leadership) run(ctx context.Context, ready func(context.Context) error) error {
	var seen uint64
	for {
		epoch, lost, leads := l.current()
		if leads && epoch != seen {
			seen = epoch
			l.lead(ctx, lost, ready)
			continue
		}
		select {
		case <-l.signal:
		case <-ctx.Done():
			return nil
		}
	}
}

// lead spans one leadership and returns when it has ended and all works with it.
func (l *leadership) lead(ctx context.Context, lost <-chan struct{}, ready func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var works sync.WaitGroup
	works.Go(func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	})
	if ready(ctx) == nil {
		for _, work := range l.all() {
			works.Go(func() { work(ctx) })
		}
	}
	works.Wait()
}

// LeaderWork registers work that this node does while it leads. It is run once
// per leadership, after this node's state has caught up, under a context that ends
// with the leadership; the next one waits until it has returned. Register before
// Run. Work that returns early is not started again.
func (g *Group) LeaderWork(work func(context.Context)) { g.leading.add(work) }

// whenLeading makes a fresh leader's state current before its work starts.
func (g *Group) whenLeading(ctx context.Context) error {
	g.metrics.leaderships.Inc()
	for {
		_, err := g.ReadIndex(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		// Refused for a moment, by overload or at the very start. The leadership
		// ends the context if that is the reason.
		select {
		case <-time.After(g.cfg.Timings.Heartbeat / 10):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
