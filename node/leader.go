package node

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/nodepb"
)

const (
	// contactEvery is how often the leader asks each member whether it is there.
	// A node that is silent for 15 s loses its shares, so a few may be lost.
	contactEvery   = 3 * time.Second
	contactTimeout = 3 * time.Second
	// contactsAtOnce bounds the questions under way.
	contactsAtOnce = 32
)

// lead is this node's work while it leads the control group: it plans
// assignments, by its own contact with the members and not by gossip's opinion.
func (n *Node) lead(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { n.keepContacts(ctx) })
	n.planner.Run(ctx)
}

// contacts is when this node itself heard from others, and what they said. Safe for
// concurrent use.
type contacts struct {
	mu   sync.Mutex
	last map[state.NodeID]time.Time // guarded by mu
	// settled is what each gave up of reserved concurrency, as it said last.
	settled map[state.NodeID][]settledShare // guarded by mu
}

// gaveUp reports that a node said so. It is assign.Config.Settled.
func (c *contacts) gaveUp(fn state.FunctionKey, id state.NodeID, since state.Index) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.settled[id], settledShare{fn, since})
}

// gives notes what a node gave up.
func (c *contacts) gives(id state.NodeID, settled []settledShare) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled == nil {
		c.settled = map[state.NodeID][]settledShare{}
	}
	if c.settled[id] = settled; len(settled) == 0 {
		delete(c.settled, id)
	}
}

func (c *contacts) heard(id state.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[state.NodeID]time.Time{}
	}
	c.last[id] = time.Now()
}

func (c *contacts) snapshot() map[state.NodeID]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.last)
}

// keepContacts asks every member in rounds until ctx ends.
func (n *Node) keepContacts(ctx context.Context) {
	tick := time.NewTicker(contactEvery)
	defer tick.Stop()
	for {
		var wg sync.WaitGroup
		slots := make(chan struct{}, contactsAtOnce) // bounds the goroutines below
		for _, m := range n.cluster.View().Members() {
			if m.ID == n.cluster.ID() {
				n.contacts.gives(m.ID, n.settledShares())
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				n.contact(ctx, m.ID)
			})
		}
		wg.Wait()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Node) contact(ctx context.Context, id state.NodeID) {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	conn, err := n.cluster.Conn(ctx, id)
	if err != nil {
		return
	}
	// An error of any kind is silence; the planner's threshold decides.
	reply, err := nodepb.NewQuestionsClient(conn).Ping(ctx, &nodepb.PingRequest{})
	if err != nil {
		return
	}
	n.contacts.heard(id)
	var settled []settledShare
	for _, s := range reply.GetSettled() {
		fn := state.FunctionKey{App: state.AppName(s.GetApp()), Name: state.FunctionName(s.GetFunction())}
		settled = append(settled, settledShare{fn, state.Index(s.GetSince())})
	}
	n.contacts.gives(id, settled)
}
