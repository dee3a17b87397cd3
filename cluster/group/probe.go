package group

import (
	"context"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// prober is the leader's own contact with the members: it asks each for its
// health over a connection of its own and remembers when it last had an answer.
type prober struct {
	g *Group

	ctx    context.Context // ends with close; bounds dials
	cancel context.CancelFunc
	dials  sync.WaitGroup

	mu       sync.Mutex
	contacts map[NodeID]*contact
	heard    map[NodeID]time.Time // the last answer; before it, the first question
}

// contact is a connection to a member, or the attempt to get one. An attempt goes
// on when the question that began it is given up: on a busy machine a handshake
// may take longer than a question, and if each question began a new one, none
// would ever end.
type contact struct {
	done chan struct{} // closed when the attempt has ended; conn and err are set then
	conn PeerConn
	err  error
	turn sync.Mutex // one question at a time
}

// newProber begins a leadership's contact: nobody is silent yet.
func newProber(g *Group) *prober {
	ctx, cancel := context.WithCancel(context.Background())
	return &prober{
		g: g, ctx: ctx, cancel: cancel,
		contacts: make(map[NodeID]*contact), heard: make(map[NodeID]time.Time),
	}
}

// silence returns how long a member has not answered. Nobody is silent before the
// first question, however long the leadership is: a new standby would be taken for
// a dead one.
func (p *prober) silence(id NodeID) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.heard[id]; ok && id != p.g.cfg.ID {
		return time.Since(t)
	}
	return 0
}

// attend begins to count the silence of new members and forgets those that left.
func (p *prober) attend(members []Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := maps.Clone(p.heard)
	for _, m := range members {
		if _, ok := p.heard[m.ID]; !ok {
			p.heard[m.ID] = time.Now()
		}
		delete(left, m.ID)
	}
	for id := range left {
		delete(p.heard, id)
	}
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
	members := p.g.Members()
	p.attend(members)
	for _, m := range members {
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
	c := p.contact(id)
	select {
	case <-c.done:
	case <-ctx.Done():
		return health{}, fmt.Errorf("reach %s: %w", id, ctx.Err())
	}
	if c.err != nil {
		return health{}, c.err
	}
	h, err := c.ask(ctx)
	if err != nil {
		p.drop(id, c)
		return health{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[id] = time.Now()
	return h, nil
}

// ask does one round trip within the context's deadline.
func (c *contact) ask(ctx context.Context) (health, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Second)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return health{}, fmt.Errorf("ask for health: %w", err)
	}
	if _, err := c.conn.Write([]byte{1}); err != nil {
		return health{}, fmt.Errorf("ask for health: %w", err)
	}
	var b [healthSize]byte
	if _, err := io.ReadFull(c.conn, b[:]); err != nil {
		return health{}, fmt.Errorf("ask for health: %w", err)
	}
	return decodeHealth(b[:]), nil
}

// contact returns the kept connection or begins to dial.
func (p *prober) contact(id NodeID) *contact {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.contacts[id]; ok {
		return c
	}
	c := &contact{done: make(chan struct{})}
	p.contacts[id] = c
	p.dials.Go(func() {
		if c.conn, c.err = p.dial(id); c.err != nil {
			p.drop(id, c)
		}
		close(c.done)
	})
	return c
}

// dial has the time of a dial, not that of a question.
func (p *prober) dial(id NodeID) (PeerConn, error) {
	addr, ok := p.g.addresses.lookup(id)
	if !ok {
		return nil, fmt.Errorf("ask for health: no address of %s is known", id)
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.g.cfg.Timings.Dial)
	defer cancel()
	return p.g.cfg.Mux.Dial(ctx, addr, statProto(p.g.cfg.Name), id)
}

// drop closes a contact that failed; the next question dials again.
func (p *prober) drop(id NodeID, c *contact) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.contacts[id] == c {
		delete(p.contacts, id)
	}
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// close ends all attempts and closes all connections. Nothing may be asked
// afterwards.
func (p *prober) close() {
	p.cancel()
	p.dials.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.contacts {
		if c.conn != nil {
			_ = c.conn.Close()
		}
	}
	clear(p.contacts)
}
