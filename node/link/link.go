package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins/frame"
)

// Link is one node's end of the links to all others. All methods are safe for
// concurrent use. Calls are answered between Run's beginning and its end.
type Link struct {
	cfg     Config
	log     zerolog.Logger
	metrics *metrics
	pool    frame.Pool
	replies sync.Pool // of *Reply
	calls   sync.Pool // of *Call, on the serving side

	draining atomic.Bool
	tasks    sync.WaitGroup

	mu      sync.RWMutex
	ctx     context.Context // Run's; nil before
	peers   map[state.NodeID]*peer
	inbound map[*frame.Session]state.NodeID
	closed  bool
}

// New returns a Link that does nothing before Run.
func New(cfg Config) (*Link, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure peer link: %w", err)
	}
	l := &Link{
		cfg:     cfg,
		log:     cfg.Logger.With().Str("component", "link").Logger(),
		peers:   map[state.NodeID]*peer{},
		inbound: map[*frame.Session]state.NodeID{},
	}
	var err error
	if l.metrics, err = newMetrics(cfg.Registerer, l); err != nil {
		return nil, fmt.Errorf("configure peer link: %w", err)
	}
	return l, nil
}

// Run accepts and keeps connections until ctx ends, then breaks them all and
// returns once every goroutine of the link has ended. It is called once.
func (l *Link) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.ctx = ctx
	l.mu.Unlock()

	stop := context.AfterFunc(ctx, func() { _ = l.cfg.Listener.Close() })
	defer stop()
	err := l.accept(ctx)
	cancel()
	l.close()
	l.tasks.Wait()
	return err
}

// close breaks every connection. No task starts after it.
func (l *Link) close() {
	_ = l.cfg.Listener.Close()
	l.mu.Lock()
	l.closed = true
	peers := l.peers
	l.peers = map[state.NodeID]*peer{}
	for s := range l.inbound {
		_ = s.Close()
	}
	l.mu.Unlock()
	for _, p := range peers {
		p.close()
	}
}

// spawn runs f as a task of the link unless the link is closed.
func (l *Link) spawn(f func()) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed || l.ctx == nil {
		return false
	}
	l.tasks.Go(f)
	return true
}

// Call sends a call to a node and waits for the answer. The reply is not nil
// whenever the other node answered, errors and refusals included, and carries
// its load then. Errors of the other node come as they were there; see
// errors.go. A call that certainly did not start wraps ErrNotStarted.
func (l *Link) Call(ctx context.Context, node state.NodeID, call *Call) (*Reply, error) {
	reply, err := l.call(ctx, node, call)
	l.metrics.outcome(err)
	if err != nil {
		return reply, fmt.Errorf("call node %s: %w", node, err)
	}
	return reply, nil
}

// call checks the limits of this side around the peer's call. A streamed reply
// counts as in flight until it is released.
func (l *Link) call(ctx context.Context, node state.NodeID, call *Call) (*Reply, error) {
	if len(call.Body) > l.cfg.BodyMax {
		return nil, fmt.Errorf("%w: %d bytes, %d allowed: %w", ErrTooLarge, len(call.Body), l.cfg.BodyMax, ErrNotStarted)
	}
	p, err := l.peer(node)
	if err != nil {
		return nil, err
	}
	if p.inFlight.Add(1) > int64(l.cfg.InFlightMax) {
		p.inFlight.Add(-1)
		return nil, ErrBusy
	}
	reply, err := p.call(ctx, call)
	if reply == nil || reply.Stream == nil {
		p.inFlight.Add(-1)
	}
	return reply, err
}

// Up reports whether there is a link to the node right now.
func (l *Link) Up(node state.NodeID) bool {
	l.mu.RLock()
	p := l.peers[node]
	l.mu.RUnlock()
	return p != nil && p.pick() != nil
}

// Poke tells that a node is back, by whatever is known of it elsewhere: a broken
// link to it is tried again now and not when its pause ends.
func (l *Link) Poke(node state.NodeID) {
	l.mu.RLock()
	p := l.peers[node]
	l.mu.RUnlock()
	if p == nil {
		return
	}
	select {
	case p.poked <- struct{}{}:
	default: // one is waiting
	}
}

// Forget breaks the link to a node for good, because it was removed from the
// cluster. A later call begins anew.
func (l *Link) Forget(node state.NodeID) {
	l.mu.Lock()
	p := l.peers[node]
	delete(l.peers, node)
	l.mu.Unlock()
	if p != nil {
		p.close()
	}
}

// Drain makes this node refuse new calls and tells the others so, or takes it
// back. Calls that run are finished either way.
func (l *Link) Drain(on bool) {
	if l.draining.Swap(on) == on {
		return
	}
	l.mu.RLock()
	sessions := make([]*frame.Session, 0, len(l.inbound))
	for s := range l.inbound {
		sessions = append(sessions, s)
	}
	l.mu.RUnlock()
	for _, s := range sessions {
		_ = sendDraining(s, on) // a session that fails here breaks, which says enough
	}
}

// sendDraining uses DRAIN as plugins do, and READY for its taking back.
func sendDraining(s *frame.Session, on bool) error {
	if on {
		return s.Send(frame.Drain, nil, nil)
	}
	return s.Send(frame.Ready, nil, nil)
}

// peer returns the link to a node, beginning it when it is new.
func (l *Link) peer(node state.NodeID) (*peer, error) {
	l.mu.RLock()
	p := l.peers[node]
	l.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.ctx == nil {
		return nil, ErrClosed
	}
	if node == l.cfg.Self || node == "" {
		return nil, fmt.Errorf("%w: %q is not another node", ErrUnreachable, node)
	}
	if p := l.peers[node]; p != nil {
		return p, nil
	}
	p = newPeer(l, node)
	l.peers[node] = p
	for slot := range l.cfg.Conns {
		l.tasks.Go(func() { p.keep(slot) })
	}
	return p, nil
}

// accept serves the listener until it is closed.
func (l *Link) accept(ctx context.Context) error {
	failures := 0
	for {
		conn, err := l.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept peer connections: %w", err)
		case err != nil:
			// Out of descriptors, most likely: it passes, and the links that exist work.
			failures++
			if failures == 1 {
				l.log.Warn().Err(err).Msg("peer connection not accepted")
			}
			if !sleep(ctx, min(10*time.Millisecond<<min(failures, 7), time.Second)) {
				return nil
			}
			continue
		}
		failures = 0
		if !l.spawn(func() { l.serve(ctx, conn) }) {
			_ = conn.Close()
		}
	}
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool { return sleepUntil(ctx, d, nil) }

// sleepUntil is sleep that early may end.
func sleepUntil(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-early:
		return true
	case <-ctx.Done():
		return false
	}
}
