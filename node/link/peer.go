package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins/frame"
)

// peer is this node's link to one other node, for the calls that this node
// sends. Each of its slots is one connection, kept by one goroutine.
type peer struct {
	link *Link
	id   state.NodeID
	ctx  context.Context // ends with the link or by close
	stop context.CancelFunc

	slots    []atomic.Pointer[conn]
	inFlight atomic.Int64
	lastCall atomic.Int64 // Unix nanoseconds
	// changed holds a note that a session's draining changed; one is enough.
	changed chan struct{}
	// poked ends a pause between attempts; one waits at most.
	poked chan struct{}

	mu sync.Mutex
	// wanted says that a call came since the connections were last closed for idling.
	wanted bool
	// broken is why there is no connection, nil while there is one or none was tried.
	broken error
	lanes  *frame.Lanes
	// signal is closed, and replaced, when anything above or a slot changes.
	signal chan struct{}

	// reporting keeps the reports in order. It guards reported, and nothing that a
	// call needs.
	reporting sync.Mutex
	reported  linkState
}

// linkState is what the owner was last told.
type linkState uint8

const (
	stateUnknown linkState = iota
	stateUp
	stateDown
)

func newPeer(l *Link, id state.NodeID) *peer {
	p := &peer{
		link: l, id: id, slots: make([]atomic.Pointer[conn], l.cfg.Conns),
		changed: make(chan struct{}, 1), poked: make(chan struct{}, 1), signal: make(chan struct{}),
	}
	p.ctx, p.stop = context.WithCancel(l.ctx)
	p.lanes = p.newLanes()
	return p
}

// close ends the slots' goroutines and the lanes.
func (p *peer) close() {
	p.stop()
	p.mu.Lock()
	lanes := p.lanes
	p.mu.Unlock()
	lanes.Close()
}

// pick returns the connection with the fewest calls open, or nil.
func (p *peer) pick() *conn {
	var best *conn
	least := 0
	for i := range p.slots {
		c := p.slots[i].Load()
		if c == nil || c.draining.Load() || c.closed() {
			continue
		}
		if n := c.InFlight(); best == nil || n < least {
			best, least = c, n
		}
	}
	return best
}

// session returns a connection. It waits for the first one to be made, and not
// for a broken one to be made again.
func (p *peer) session(ctx context.Context, deadline time.Time) (*conn, error) {
	p.lastCall.Store(time.Now().UnixNano())
	if c := p.pick(); c != nil {
		return c, nil
	}
	ctx, cancel := within(ctx, deadline)
	defer cancel()
	for {
		p.mu.Lock()
		if !p.wanted {
			p.wanted = true
			p.signalLocked()
		}
		signal, broken := p.signal, p.broken
		p.mu.Unlock()
		// The signal is taken first: what changes after this look closes it.
		if c := p.pick(); c != nil {
			return c, nil
		}
		if broken != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, broken)
		}
		if p.anyDraining() {
			return nil, ErrDraining
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
		case <-p.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// anyDraining reports that there are connections, only none for new calls.
func (p *peer) anyDraining() bool {
	for i := range p.slots {
		if c := p.slots[i].Load(); c != nil && c.draining.Load() {
			return true
		}
	}
	return false
}

// signalLocked wakes everybody who waits for a change. Waiters take the channel
// before they look, so that no change falls in between.
func (p *peer) signalLocked() {
	close(p.signal)
	p.signal = make(chan struct{})
}

// keep makes and keeps one connection until the peer is closed.
func (p *peer) keep(slot int) {
	attempt := 0
	for p.await(slot) {
		c, err := p.connect()
		if err != nil {
			p.failed(slot, err)
			if !sleepUntil(p.ctx, p.backoff(attempt), p.poked) {
				return
			}
			attempt++
			continue
		}
		began := time.Now()
		p.attach(slot, c)
		p.detach(slot, p.watch(c))
		// A node that greets and then breaks is no better than one that is away.
		if attempt++; time.Since(began) > p.link.cfg.BackoffMax {
			attempt = 0
		}
		if attempt > 1 && !sleepUntil(p.ctx, p.backoff(attempt), p.poked) {
			return
		}
	}
}

// backoff doubles from 50 ms to the configured most, with jitter.
func (p *peer) backoff(attempt int) time.Duration {
	d := min(50*time.Millisecond<<min(attempt, 16), p.link.cfg.BackoffMax)
	return d/2 + rand.N(d/2+1)
}

// await waits until the slot should have a connection: the first one when a call
// came, the others when the first is there. It reports false at the end.
func (p *peer) await(slot int) bool {
	for p.ctx.Err() == nil {
		p.mu.Lock()
		ready := p.wanted && (slot == 0 || p.slots[0].Load() != nil)
		signal := p.signal
		p.mu.Unlock()
		if ready {
			return true
		}
		select {
		case <-signal:
		case <-p.ctx.Done():
		}
	}
	return false
}

// attach makes a connection available to calls.
func (p *peer) attach(slot int, c *conn) {
	select {
	case <-p.poked: // it has come true, and must not cut a later pause short
	default:
	}
	p.mu.Lock()
	p.slots[slot].Store(c)
	p.broken = nil
	p.signalLocked()
	p.mu.Unlock()
	p.report()
}

// detach takes a connection out that ended, errIdle meaning by our own wish.
func (p *peer) detach(slot int, err error) {
	if err == nil {
		err = frame.ErrClosed
	}
	p.mu.Lock()
	p.slots[slot].Store(nil)
	last := !p.attachedLocked()
	switch {
	case errors.Is(err, errIdle):
		p.wanted = false
	case last:
		p.broken = err
	}
	p.signalLocked()
	p.mu.Unlock()
	switch {
	case errors.Is(err, errIdle):
		p.resetLanes()
	case last && p.ctx.Err() == nil:
		// Calls on the lanes wait for a node that is gone.
		p.resetLanes()
		p.link.metrics.broken.Inc()
		p.report()
	}
}

// failed notes that a connection could not be made.
func (p *peer) failed(slot int, err error) {
	if p.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	if !p.attachedLocked() {
		p.broken = err
		p.signalLocked()
	}
	p.mu.Unlock()
	if slot == 0 {
		p.report()
	}
}

// attachedLocked reports whether any slot has a connection, draining or not.
func (p *peer) attachedLocked() bool {
	for i := range p.slots {
		if p.slots[i].Load() != nil {
			return true
		}
	}
	return false
}

// report tells the owner when the link came up or went down. It is called from
// the slots' goroutines.
func (p *peer) report() {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	now := stateDown
	if p.pick() != nil {
		now = stateUp
	}
	if now == p.reported || p.ctx.Err() != nil {
		return
	}
	p.reported = now
	p.mu.Lock()
	cause := p.broken
	p.mu.Unlock()
	if now == stateUp {
		p.link.log.Info().Str("peer", string(p.id)).Msg("link up")
	} else {
		p.link.log.Warn().Err(cause).Str("peer", string(p.id)).Msg("link down")
	}
	if p.link.cfg.OnState != nil {
		p.link.cfg.OnState(p.id, now == stateUp)
	}
}

func (p *peer) newLanes() *frame.Lanes {
	return frame.NewLanes(frame.LanesConfig{Open: p.openLane, Max: p.link.cfg.Lanes})
}

// resetLanes ends all lanes and the calls on them.
func (p *peer) resetLanes() {
	p.mu.Lock()
	old := p.lanes
	if p.ctx.Err() == nil {
		p.lanes = p.newLanes()
	}
	p.mu.Unlock()
	old.Close()
}
