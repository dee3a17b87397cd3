package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Members returns the servers of the newest configuration this node knows.
// Observers are not in it.
func (g *Group) Members() []Member {
	if g.raft == nil {
		return nil // asked by the address book while Open is still at work
	}
	servers := g.raft.GetConfiguration().Configuration().Servers
	members := make([]Member, 0, len(servers))
	for _, s := range servers {
		role := Standby
		if s.Suffrage == raft.Voter {
			role = Voter
		}
		members = append(members, Member{ID: NodeID(s.ID), Addr: string(s.Address), Role: role})
	}
	return members
}

// RoleOf returns a node's role in the newest configuration this node knows.
func (g *Group) RoleOf(id NodeID) Role {
	for _, m := range g.Members() {
		if m.ID == id {
			return m.Role
		}
	}
	return Observer
}

// AddStandby makes a node a standby, or records a member's new address; a voter
// stays one. Like all changes
// of roles it works on the leader only, one at a time, and waits until the change
// is committed.
func (g *Group) AddStandby(ctx context.Context, s Server) error {
	return g.changeRole(ctx, s, max(Standby, g.RoleOf(s.ID)), func(wait time.Duration) raft.IndexFuture {
		return g.raft.AddNonvoter(raft.ServerID(s.ID), raft.ServerAddress(s.Addr), 0, wait)
	})
}

// AddVoter gives a node a vote, or records its new address. It should be a standby
// that has caught up: a voter that is behind cannot help to commit.
func (g *Group) AddVoter(ctx context.Context, s Server) error {
	return g.changeRole(ctx, s, Voter, func(wait time.Duration) raft.IndexFuture {
		return g.raft.AddVoter(raft.ServerID(s.ID), raft.ServerAddress(s.Addr), 0, wait)
	})
}

// Demote takes a voter's vote; it stays as a standby.
func (g *Group) Demote(ctx context.Context, id NodeID) error {
	if g.RoleOf(id) != Voter {
		return nil
	}
	return g.changeRole(ctx, g.server(id), Standby, func(wait time.Duration) raft.IndexFuture {
		return g.raft.DemoteVoter(raft.ServerID(id), 0, wait)
	})
}

// Remove ends a node's membership; it becomes an observer, or nothing if its
// owner removed it for good. A leader cannot remove itself: transfer first.
func (g *Group) Remove(ctx context.Context, id NodeID) error {
	if g.RoleOf(id) == Observer {
		return nil
	}
	if id == g.cfg.ID {
		return fmt.Errorf("remove %s from %s: a leader cannot remove itself", id, g.cfg.Name)
	}
	return g.changeRole(ctx, g.server(id), Observer, func(wait time.Duration) raft.IndexFuture {
		return g.raft.RemoveServer(raft.ServerID(id), 0, wait)
	})
}

// server returns what is known about a member's address.
func (g *Group) server(id NodeID) Server {
	addr, _ := g.addresses.lookup(id)
	return Server{ID: id, Addr: addr}
}

// changeRole makes one change, with its hooks around it.
func (g *Group) changeRole(ctx context.Context, s Server, to Role, submit func(time.Duration) raft.IndexFuture) error {
	change := Change{Server: s, From: g.RoleOf(s.ID), To: to}
	err := g.changeOnce(ctx, change, submit)
	result := "ok"
	if err != nil {
		result = "failed"
		err = fmt.Errorf("make %s a %s of %s: %w", s.ID, to, g.cfg.Name, err)
	}
	g.metrics.changes.WithLabelValues(result).Inc()
	return err
}

// changeOnce holds the change token from the first hook to the last, so that hooks
// see one change at a time as well.
func (g *Group) changeOnce(ctx context.Context, change Change, submit func(time.Duration) raft.IndexFuture) error {
	if g.raft.State() != raft.Leader {
		return g.notLeader()
	}
	select {
	case g.change <- struct{}{}:
		defer func() { <-g.change }()
	case <-ctx.Done():
		return ctx.Err()
	}
	moves := change.From != change.To
	if moves && g.cfg.BeforeChange != nil {
		if err := g.cfg.BeforeChange(ctx, change); err != nil {
			return fmt.Errorf("before the change: %w", err)
		}
	}
	if err := g.commitChange(ctx, submit); err != nil {
		return err
	}
	if moves {
		g.log.Info().Str("peer", string(change.Server.ID)).Stringer("from", change.From).
			Stringer("to", change.To).Msg("role changed")
		if g.cfg.AfterChange != nil {
			g.cfg.AfterChange(ctx, change)
		}
	}
	return nil
}

// commitChange submits a change and waits for its commit or the caller's end.
func (g *Group) commitChange(ctx context.Context, submit func(time.Duration) raft.IndexFuture) error {
	done := make(chan error, 1)
	err := g.await(g.system, func() {
		// Raft itself holds a change back until the one before is committed.
		done <- submit(g.cfg.Timings.RPC).Error()
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		if err != nil && !isRaftError(err) {
			return err // refused for its content
		}
		if err != nil {
			return g.classify(err)
		}
		return nil
	case <-g.ended:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// isRaftError tells an error of leadership from a refusal of the change itself.
func isRaftError(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress) ||
		errors.Is(err, raft.ErrRaftShutdown) || errors.Is(err, raft.ErrEnqueueTimeout)
}

// TransferLeadership hands leadership to a voter, or to the most advanced one if
// to is empty, and returns when another node has taken it. The caller retries if
// it fails: nothing is lost.
func (g *Group) TransferLeadership(ctx context.Context, to NodeID) error {
	err := g.transfer(ctx, to)
	if err != nil {
		return fmt.Errorf("transfer leadership of %s: %w", g.cfg.Name, err)
	}
	return nil
}

// transfer is TransferLeadership without the clause on its errors.
func (g *Group) transfer(ctx context.Context, to NodeID) error {
	if g.raft.State() != raft.Leader {
		return g.notLeader()
	}
	done := make(chan error, 1)
	err := g.await(g.system, func() {
		if to == "" {
			done <- g.raft.LeadershipTransfer().Error()
			return
		}
		addr, _ := g.addresses.lookup(to)
		done <- g.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(addr)).Error()
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-g.ended:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
