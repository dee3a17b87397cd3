package executor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins"
)

// function names a function, of which a gate counts all versions.
type function struct{ app, name string }

// gates are this node's parts of reserved concurrency. One is made with the first call
// of a function that has a share, and stays: what it counts must not be forgotten while
// a call is under way, and it is small.
type gates struct {
	mu  sync.Mutex
	all map[function]*gate // guarded by mu
}

// of returns the gate of a key's function.
func (gs *gates) of(e *Executor, key Key) *gate {
	fn := function{key.App, key.Function}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.all[fn]
	if g == nil {
		if gs.all == nil {
			gs.all = map[function]*gate{}
		}
		g = &gate{e: e, fn: fn}
		gs.all[fn] = g
	}
	return g
}

// list returns all gates.
func (gs *gates) list() []*gate {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	list := make([]*gate, 0, len(gs.all))
	for _, g := range gs.all {
		list = append(list, g)
	}
	return list
}

// gate lets no more calls of a function into instances than this node's share of its
// reserved concurrency. Whoever is let in counts until its slot is free again, which
// after a timeout is when the instance is gone.
type gate struct {
	e  *Executor
	fn function

	// The figures, written under mu and read without it.
	running, waiting atomic.Int32

	mu    sync.Mutex
	queue []chan error // guarded by mu; each gets one value: let in, or refused
}

// shareLocked asks for the share of this moment. It is asked under the lock, so that a
// share cannot be given up between the answer and the decision made by it.
func (g *gate) shareLocked() (int, error) {
	if g.e.cfg.Share == nil {
		return 0, ErrReserved
	}
	return g.e.cfg.Share(g.fn.app, g.fn.name)
}

// share is the share of this moment, 0 when no call may begin.
func (g *gate) share() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	share, err := g.shareLocked()
	if err != nil {
		return 0
	}
	return share
}

// enter lets a call in, at once or after a wait in order. At most room calls wait.
func (g *gate) enter(ctx context.Context, deadline time.Time, room int) error {
	g.mu.Lock()
	share, err := g.shareLocked()
	switch {
	case err != nil:
		g.mu.Unlock()
		g.refuse("no_leader")
		return err
	case len(g.queue) == 0 && int(g.running.Load()) < share:
		g.running.Add(1)
		g.mu.Unlock()
		return nil
	case share == 0 || len(g.queue) >= room:
		g.mu.Unlock()
		g.refuse("reserved")
		return ErrReserved
	}
	turn := make(chan error, 1)
	g.queue = append(g.queue, turn)
	g.waiting.Store(int32(len(g.queue)))
	g.mu.Unlock()
	return g.await(ctx, deadline, turn)
}

// await waits for a call's turn.
func (g *gate) await(ctx context.Context, deadline time.Time, turn chan error) error {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	var err error
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-expired:
		err = context.DeadlineExceeded
	}
	g.mu.Lock()
	left := len(g.queue)
	g.queue = slices.DeleteFunc(g.queue, func(c chan error) bool { return c == turn })
	g.waiting.Store(int32(len(g.queue)))
	left -= len(g.queue)
	g.mu.Unlock()
	// Whoever let it in did so under the lock and has filled the channel.
	if left == 0 && <-turn == nil {
		g.leave()
	}
	g.refuse("caller_gone")
	return fmt.Errorf("wait for reserved concurrency of %s/%s: %w: %w", g.fn.app, g.fn.name, err, plugins.ErrNotStarted)
}

// confirm asks again, when a call that was let in has its slot: it may have waited for
// a start for longer than a share is good for. It may be called on a nil gate.
func (g *gate) confirm() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	share, err := g.shareLocked()
	over := int(g.running.Load()) > share
	g.mu.Unlock()
	switch {
	case err != nil:
		g.refuse("no_leader")
	case over:
		g.refuse("reserved")
		err = ErrReserved
	}
	return err
}

// leave ends a call that was let in. It may be called on a nil gate.
func (g *gate) leave() {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.running.Add(-1)
	g.mu.Unlock()
	g.serve()
}

// serve lets in whoever waits and may, and sends everybody away when nobody may.
func (g *gate) serve() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return
	}
	share, err := g.shareLocked()
	reason := "no_leader"
	if err == nil && share == 0 {
		err, reason = ErrReserved, "reserved"
	}
	for len(g.queue) > 0 && (err != nil || int(g.running.Load()) < share) {
		if err == nil {
			g.running.Add(1)
		} else {
			g.refuse(reason)
		}
		g.queue[0] <- err
		g.queue = g.queue[1:]
	}
	g.waiting.Store(int32(len(g.queue)))
}

func (g *gate) refuse(reason string) {
	g.e.m.refused.WithLabelValues(g.fn.app+"/"+g.fn.name, reason).Inc()
}

// enter takes a call's part of reserved concurrency. The gate is nil for a function
// that reserves nothing.
func (e *Executor) enter(ctx context.Context, spec *Spec, req *Request) (*gate, error) {
	if !spec.Reserved {
		return nil, nil
	}
	deadline := req.Deadline
	if _, bounded := ctx.Deadline(); !bounded && deadline.IsZero() {
		// As in a pool's queue: beyond a whole call in front of it there is little hope.
		deadline = time.Now().Add(spec.Timeout + e.cfg.StartTimeout)
	}
	g := e.gates.of(e, spec.Key)
	return g, g.enter(ctx, deadline, spec.Queue)
}

// serveGates lets in whoever waits for a share that has grown, or was lost.
func (e *Executor) serveGates() {
	for _, g := range e.gates.list() {
		if g.waiting.Load() > 0 {
			g.serve()
		}
	}
}

// Reserved returns how many calls of a function are let in under its reserved
// concurrency here. Whoever is let in later is so by the share that Config.Share
// returns after this call.
func (e *Executor) Reserved(app, name string) int {
	g := e.gates.of(e, Key{App: app, Function: name})
	g.mu.Lock()
	defer g.mu.Unlock()
	return int(g.running.Load())
}
