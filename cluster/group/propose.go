package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Propose replicates data and returns what the FSM's Apply answered on this node,
// and the entry's index. It is for clients' writes: it is refused while the disk
// is low. See the package comment for what the errors mean. When ctx ends first,
// the result is ErrOutcomeUnknown and the proposal keeps its place in the bound
// until Raft is done with it.
func (g *Group) Propose(ctx context.Context, data []byte) (any, Index, error) {
	if g.watch.low.Load() {
		g.metrics.proposals.WithLabelValues("disk_low").Inc()
		return nil, 0, fmt.Errorf("propose to %s: %w", g.cfg.Name, ErrDiskLow)
	}
	return g.propose(ctx, data, g.proposals)
}

// ProposeSystem is Propose for the cluster's own writes: removing a node, freeing
// space, keeping roles. It passes a low disk and has places of its own, so that an
// overload of clients cannot stop what would relieve it.
func (g *Group) ProposeSystem(ctx context.Context, data []byte) (any, Index, error) {
	return g.propose(ctx, data, g.system)
}

// propose counts and times what apply does.
func (g *Group) propose(ctx context.Context, data []byte, slots chan struct{}) (any, Index, error) {
	start := time.Now()
	result, index, err := g.apply(ctx, data, slots)
	g.metrics.proposals.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		return nil, 0, fmt.Errorf("propose to %s: %w", g.cfg.Name, err)
	}
	g.metrics.commit.Observe(time.Since(start).Seconds())
	return result, index, nil
}

// outcome names an error for the metrics.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNotLeader):
		return "not_leader"
	case errors.Is(err, ErrOverloaded):
		return "overloaded"
	case errors.Is(err, ErrOutcomeUnknown):
		return "unknown"
	default:
		return "refused"
	}
}

// apply checks what can be checked before Raft sees the entry, then waits for
// Raft's answer or the caller's end.
func (g *Group) apply(ctx context.Context, data []byte, slots chan struct{}) (any, Index, error) {
	if len(data) > g.cfg.Limits.EntryBytes {
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), g.cfg.Limits.EntryBytes)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if g.raft.State() != raft.Leader {
		return nil, 0, g.notLeader()
	}
	type answer struct {
		result any
		index  Index
		err    error
	}
	// The wait is a goroutine of its own because Raft's futures know no context;
	// the slot bounds how many there are.
	done := make(chan answer, 1)
	err := g.await(slots, func() {
		future := g.raft.Apply(data, g.cfg.Timings.Election)
		if err := future.Error(); err != nil {
			done <- answer{err: g.classify(err)}
			return
		}
		done <- answer{result: future.Response(), index: Index(future.Index())}
	})
	if err != nil {
		return nil, 0, err
	}
	select {
	case a := <-done:
		return a.result, a.index, a.err
	case <-g.ended:
		return nil, 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed)
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// await runs wait in a goroutine that Close waits for, if slots has a place.
func (g *Group) await(slots chan struct{}, wait func()) error {
	select {
	case slots <- struct{}{}:
	default:
		return ErrOverloaded
	}
	g.waitsMu.RLock()
	defer g.waitsMu.RUnlock()
	select {
	case <-g.closing:
		<-slots
		return ErrClosed
	default:
	}
	g.waits.Go(func() {
		defer func() { <-slots }()
		wait()
	})
	return nil
}

// classify maps Raft's errors to ours. The library says which of them come before
// the entry was appended.
func (g *Group) classify(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return g.notLeader()
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrOverloaded
	case errors.Is(err, raft.ErrRaftShutdown):
		// It may have been on its way.
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed)
	default:
		// Leadership lost, aborted by an installed state, or the append failed here
		// and may still live on a follower.
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

// notLeader names the leader to try instead. A closed group does not lead either,
// but nobody gets an answer from it by asking again.
func (g *Group) notLeader() error {
	select {
	case <-g.closing:
		return ErrClosed
	default:
	}
	id, addr := g.Leader()
	if id == g.cfg.ID {
		// Handing over, or about to hear of the next one: nobody to point to.
		return &NotLeaderError{}
	}
	return &NotLeaderError{ID: id, Addr: addr}
}

// Leader returns the leader this node knows, or empty strings.
func (g *Group) Leader() (NodeID, string) {
	addr, id := g.raft.LeaderWithID()
	return NodeID(id), string(addr)
}

// IsLeader reports whether this node leads, as far as it knows.
func (g *Group) IsLeader() bool { return g.raft.State() == raft.Leader }
