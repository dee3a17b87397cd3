package group

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// prober is the leader's own contact with the members: it asks each for its
// health over a connection of its own and remembers when it last had an answer.
type prober struct {
	g     *Group
	since time.Time // the leadership's begin: silence counts from here at the earliest

	mu    sync.Mutex
	conns map[NodeID]PeerConn
	heard map[NodeID]time.Time
}

// newProber begins a leadership's contact: nobody is silent yet.
func newProber(g *Group) *prober {
	return &prober{
		g: g, since: time.Now(),
		conns: make(map[NodeID]PeerConn), heard: make(map[NodeID]time.Time),
	}
}

// silence returns how long a member has not answered.
func (p *prober) silence(id NodeID) time.Duration {
	if id == p.g.cfg.ID {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.heard[id]; ok {
		return time.Since(t)
	}
	return time.Since(p.since)
}

// askAll asks all members at once, each bounded by ctx. A member that does not
// answer is reported with a negative contact, which autopilot takes as unhealthy;
// left out it would keep its old figures.
func (p *prober) askAll(ctx context.Context) map[raft.ServerID]*autopilot.ServerStats {
	var (
		mu    sync.Mutex
		stats = make(map[raft.ServerID]*autopilot.ServerStats)
		wg    sync.WaitGroup
	)
	for _, m := range p.g.Members() {
		wg.Go(func() {
			h, err := p.ask(ctx, m.ID)
			if err != nil {
				h = health{lastContact: -1}
			}
			mu.Lock()
			defer mu.Unlock()
			stats[raft.ServerID(m.ID)] = &autopilot.ServerStats{
				LastContact: h.lastContact, LastTerm: h.lastTerm, LastIndex: h.lastIndex,
			}
		})
	}
	wg.Wait()
	return stats
}

// ask asks one member, over the connection of the last time if it still works.
func (p *prober) ask(ctx context.Context, id NodeID) (health, error) {
	if id == p.g.cfg.ID {
		return p.g.health(), nil
	}
	c, err := p.conn(ctx, id)
	if err != nil {
		return health{}, err
	}
	h, err := askOn(ctx, c)
	if err != nil {
		p.drop(id)
		return health{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[id] = time.Now()
	return h, nil
}

// askOn does one round trip within the context's deadline.
func askOn(ctx context.Context, c PeerConn) (health, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Second)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return health{}, fmt.Errorf("ask for health: %w", err)
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return health{}, fmt.Errorf("ask for health: %w", err)
	}
	var b [healthSize]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return health{}, fmt.Errorf("ask for health: %w", err)
	}
	return decodeHealth(b[:]), nil
}

// conn returns the kept connection or dials one. Each member is asked by one
// goroutine at a time, so there are never two.
func (p *prober) conn(ctx context.Context, id NodeID) (PeerConn, error) {
	p.mu.Lock()
	c, ok := p.conns[id]
	p.mu.Unlock()
	if ok {
		return c, nil
	}
	addr, ok := p.g.addresses.lookup(id)
	if !ok {
		return nil, fmt.Errorf("ask for health: no address of %s is known", id)
	}
	c, err := p.g.cfg.Mux.Dial(ctx, addr, statProto(p.g.cfg.Name), id)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[id] = c
	return c, nil
}

// drop closes a connection that failed; the next question dials again.
func (p *prober) drop(id NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[id]; ok {
		_ = c.Close()
		delete(p.conns, id)
	}
}

// close closes all connections. Nothing may be asked afterwards.
func (p *prober) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, c := range p.conns {
		_ = c.Close()
		delete(p.conns, id)
	}
}
