package group

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

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

// readIndex notes the commit index first and asks for the majority second: the
// other way round another leader could have committed more in between.
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
	case <-g.ended:
		return 0, ErrClosed
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

// committedInTerm reports whether the newest committed entry is of this term. An
// entry that was compacted away counts as no, which costs one barrier.
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
