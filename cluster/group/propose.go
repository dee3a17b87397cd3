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

func (g *Group) notLeader() error {
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

// ReadIndex returns when this node's FSM reflects every proposal that was
// answered before the call, so that reading it then is linearizable. It works on
// the leader only and writes nothing to disk: the leader asks a majority whether
// it still leads, then waits for its own state.
func (g *Group) ReadIndex(ctx context.Context) (Index, error) {
	index, err := g.readIndex(ctx)
	if err != nil {
		return 0, fmt.Errorf("read index of %s: %w", g.cfg.Name, err)
	}
	return index, nil
}

func (g *Group) readIndex(ctx context.Context) (Index, error) {
	if g.raft.State() != raft.Leader {
		return 0, g.notLeader()
	}
	verified := make(chan error, 1)
	commit := Index(0)
	err := g.await(g.reads, func() {
		// A new leader's commit index is old until an entry of its term is committed.
		if !g.committedInTerm() {
			if err := g.raft.Barrier(g.cfg.Timings.Election).Error(); err != nil {
				verified <- g.classifyRead(err)
				return
			}
		}
		commit = Index(g.raft.CommitIndex())
		if err := g.raft.VerifyLeader().Error(); err != nil {
			verified <- g.classifyRead(err)
			return
		}
		verified <- nil
	})
	if err != nil {
		return 0, err
	}
	select {
	case err := <-verified:
		if err != nil {
			return 0, err
		}
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return commit, g.waitApplied(ctx, commit)
}

// classifyRead is classify for questions, which have no outcome to lose.
func (g *Group) classifyRead(err error) error {
	switch {
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrOverloaded
	default:
		return g.notLeader()
	}
}

func (g *Group) committedInTerm() bool {
	var l raft.Log
	if err := g.store.GetLog(g.raft.CommitIndex(), &l); err != nil {
		return false
	}
	return l.Term == g.raft.CurrentTerm()
}

// waitApplied waits until the FSM has seen every command up to index. Entries
// without a command, such as a new leader's first, never reach it.
func (g *Group) waitApplied(ctx context.Context, index Index) error {
	target := index
	for {
		applied, changed := g.bridge.progress()
		if target = g.lastSeen(applied, target); applied >= target {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-g.closing:
			return ErrClosed
		}
	}
}

// lastSeen returns the last entry in (applied, index] that reaches the FSM, or
// applied if there is none.
func (g *Group) lastSeen(applied, index Index) Index {
	for i := index; i > applied; i-- {
		var l raft.Log
		if err := g.store.GetLog(uint64(i), &l); err != nil {
			// Compacted already, so a snapshot holds it and the FSM has seen more.
			return i
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
			return i
		}
	}
	return applied
}

// WaitApplied waits until this node's FSM has seen every entry up to index, which
// must have been committed. A follower uses it to read its leader's write.
func (g *Group) WaitApplied(ctx context.Context, index Index) error {
	for {
		applied, changed := g.bridge.progress()
		if applied >= index || Index(g.raft.CommitIndex()) >= index && g.lastSeen(applied, index) <= applied {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for entry %d of %s: %w", index, g.cfg.Name, ctx.Err())
		case <-g.closing:
			return ErrClosed
		}
	}
}

// Applied returns the index up to which this node's FSM has seen the log.
func (g *Group) Applied() Index {
	applied, _ := g.bridge.progress()
	return applied
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
