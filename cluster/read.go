package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// Consistent returns a view that reflects every command whose Propose returned,
// on any node, before the call: the leader confirms with a majority that it still
// leads and names an index, and this node waits until it has reached it. It fails
// with ErrNoLeader where there is no quorum; View still answers then.
func (c *Cluster) Consistent(ctx context.Context) (*state.View, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timings.Propose)
		defer cancel()
	}
	index, err := c.readIndexUntil(ctx)
	if err != nil {
		return nil, fmt.Errorf("consistent read: %w", err)
	}
	if err := c.awaitPosition(ctx, index); err != nil {
		return nil, fmt.Errorf("consistent read: %w", err)
	}
	return c.View(), nil
}

// readIndexUntil asks for a read index until somebody answers or ctx ends.
func (c *Cluster) readIndexUntil(ctx context.Context) (state.Index, error) {
	pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.RetryMax)
	var hint state.NodeID
	hops := 0
	for {
		index, next, err := c.readIndexOnce(ctx, hint)
		if err == nil {
			return index, nil
		}
		if errors.Is(err, ErrClosed) || errors.Is(err, ErrRemoved) || errors.Is(err, ErrDenied) {
			return 0, err
		}
		if next != "" && next != hint && hops < hintsMax && ctx.Err() == nil {
			hint = next
			hops++
			continue
		}
		hint, hops = "", 0
		if !pause.wait(ctx) {
			return 0, fmt.Errorf("%w: %w", ErrNoLeader, err)
		}
	}
}

func (c *Cluster) readIndexOnce(ctx context.Context, hint state.NodeID) (state.Index, state.NodeID, error) {
	leader := hint
	if leader == "" {
		leader = c.Leader()
	}
	if leader == "" {
		leader = c.anyVoter()
	}
	if leader == "" {
		return 0, "", ErrNoLeader
	}
	if leader == c.id.ID {
		index, err := c.reads.get(ctx)
		return index, hinted(err), err
	}
	conn, err := c.conns.get(leader)
	if err != nil {
		return 0, "", err
	}
	// A leader that was cut off may keep the question until our context ends; ask
	// somebody else before that.
	rpc, cancel := context.WithTimeout(ctx, c.cfg.Timings.RPC)
	defer cancel()
	res, err := clusterpb.NewControlServiceClient(conn).ReadIndex(rpc, &clusterpb.ReadIndexRequest{})
	if err != nil {
		err = fromStatus(err)
		if status.Code(err) == codes.DeadlineExceeded && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return 0, hinted(err), err
	}
	return state.Index(res.GetIndex()), "", nil
}

// readLeader asks the majority, as leader, and returns the position that a read
// must have reached.
func (c *Cluster) readLeader(ctx context.Context) (state.Index, error) {
	if _, err := c.group.ReadIndex(ctx); err != nil {
		return 0, fromGroup(err)
	}
	position, _ := c.machine.Position()
	return position, nil
}

// readBatch lets reads share a round of questions to the majority. A read joins
// the round that starts next, never one that is under way: that one may already
// have an older answer.
type readBatch struct {
	ask func(context.Context) (state.Index, error)

	mu      sync.Mutex
	running bool
	next    *readRound // The round that collects reads; nil if nobody waits.
}

// readRound is one question. Its fields are written before done is closed.
type readRound struct {
	start chan struct{} // Closed when the round may start; its first read runs it.
	done  chan struct{}
	index state.Index
	err   error
}

func newReadBatch(ask func(context.Context) (state.Index, error)) *readBatch {
	return &readBatch{ask: ask}
}

// get returns the answer to a question that was asked after the call. The round
// runs under the context of the read that was first in it; should that one give
// up, the others of its round get its error and may ask again.
func (b *readBatch) get(ctx context.Context) (state.Index, error) {
	b.mu.Lock()
	round, first := b.next, false
	if round == nil {
		round, first = &readRound{start: make(chan struct{}), done: make(chan struct{})}, true
		if b.running {
			b.next = round
		} else {
			b.running = true
			close(round.start)
		}
	}
	b.mu.Unlock()
	if first {
		b.run(ctx, round)
		return round.index, round.err
	}
	select {
	case <-round.done:
		return round.index, round.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run waits for the round's turn, asks, and lets the next round start.
func (b *readBatch) run(ctx context.Context, round *readRound) {
	select {
	case <-round.start:
		round.index, round.err = b.ask(ctx)
	case <-ctx.Done():
		// The turn still has to be taken and passed on.
		<-round.start
		round.err = ctx.Err()
	}
	b.mu.Lock()
	if b.next != nil {
		close(b.next.start)
		b.next = nil
	} else {
		b.running = false
	}
	b.mu.Unlock()
	close(round.done)
}
