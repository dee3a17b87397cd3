package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// lead is the cluster's own work on the leader: it commits what the founding or a
// recovery left to be committed, and then keeps roles, keys and the feature level
// as they should be.
func (c *Cluster) lead(ctx context.Context) {
	for pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.RetryMax); ; {
		err := c.commitPending(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		c.log.Warn().Err(err).Msg("first commands not committed")
		if !pause.wait(ctx) {
			return
		}
	}
	// Keys handed over in this leadership; a new leader hands them over again,
	// because the one before may have died in between.
	keyed := map[state.NodeID]bool{c.id.ID: true}
	tick := time.NewTicker(c.cfg.Timings.Reconcile)
	defer tick.Stop()
	for {
		c.reconcileRoles(ctx)
		c.reconcileKeys(ctx, keyed)
		c.reconcileLevel(ctx)
		select {
		case <-tick.C:
		case <-c.reconcile:
		case <-ctx.Done():
			return
		}
	}
}

// propose commits a command of the leader's own and logs what went wrong: the
// next round tries again.
func (c *Cluster) proposeOwn(ctx context.Context, command *clusterpb.Command, what string) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timings.RPC)
	defer cancel()
	result, err := c.proposeHere(ctx, c.complete(command))
	if err == nil {
		err = state.Refused(result)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn().Err(err).Msg(what)
	}
}

// reconcileRoles records in the state what Raft's configuration says, so that
// every node knows whom to follow and who may hand over keys. If this node itself
// was removed, it lets another lead, which drops it.
func (c *Cluster) reconcileRoles(ctx context.Context) {
	roles := map[state.NodeID]clusterpb.Role{}
	for _, m := range c.group.Members() {
		roles[state.NodeID(m.ID)] = roleOf(m.Role)
	}
	view := c.View()
	for _, m := range view.Members() {
		role, ok := roles[m.ID]
		if !ok {
			role = clusterpb.Role_ROLE_OBSERVER
		}
		if role != m.Role {
			c.proposeOwn(ctx, &clusterpb.Command{Op: &clusterpb.Command_SetRole{
				SetRole: &clusterpb.SetRole{Id: string(m.ID), Role: role},
			}}, "role not recorded")
		}
	}
	if view.Removed(c.id.ID) {
		if err := c.group.TransferLeadership(ctx, ""); err != nil {
			c.log.Warn().Err(err).Msg("removed leader could not hand over")
		}
	}
}

func roleOf(r group.Role) clusterpb.Role {
	switch r {
	case group.Voter:
		return clusterpb.Role_ROLE_VOTER
	case group.Standby:
		return clusterpb.Role_ROLE_STANDBY
	default:
		return clusterpb.Role_ROLE_OBSERVER
	}
}

// reconcileKeys makes sure that every voter has the voters' keys.
func (c *Cluster) reconcileKeys(ctx context.Context, keyed map[state.NodeID]bool) {
	for _, m := range c.group.Members() {
		id := state.NodeID(m.ID)
		if m.Role != group.Voter {
			delete(keyed, id)
		}
		if m.Role != group.Voter || keyed[id] || ctx.Err() != nil {
			continue
		}
		if err := c.handOver(ctx, id); err != nil {
			c.log.Debug().Err(err).Str("peer", string(id)).Msg("keys not handed over")
			continue
		}
		keyed[id] = true
	}
}

// reconcileLevel raises the feature level once every member knows a higher one.
func (c *Cluster) reconcileLevel(ctx context.Context) {
	if level := commonLevel(c.View()); level > c.View().FeatureLevel() {
		c.log.Info().Uint32("level", level).Msg("feature level raised")
		c.proposeOwn(ctx, &clusterpb.Command{Op: &clusterpb.Command_RaiseFeatureLevel{
			RaiseFeatureLevel: &clusterpb.RaiseFeatureLevel{FeatureLevel: level},
		}}, "feature level not raised")
	}
}

// commonLevel returns the highest level that every member and this release know.
func commonLevel(view *state.View) uint32 {
	level := state.FeatureLevel
	for _, m := range view.Members() {
		level = min(level, m.FeatureLevel)
	}
	return level
}

// beforeChange runs on the leader before Raft changes a node's role: nobody votes
// without the voters' keys, or they could be lost with the other voters.
func (c *Cluster) beforeChange(ctx context.Context, change group.Change) error {
	if change.To != group.Voter {
		return nil
	}
	if err := c.handOver(ctx, state.NodeID(change.Server.ID)); err != nil {
		return fmt.Errorf("hand over keys: %w", err)
	}
	return nil
}

// afterChange wakes the reconciliation, which records the role.
func (c *Cluster) afterChange(context.Context, group.Change) { wake(c.reconcile) }

// wake sends a signal that is not lost and never blocks; the channel has capacity
// 1.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// voters counts the voters in Raft's configuration.
func (c *Cluster) voters() int {
	n := 0
	for _, m := range c.group.Members() {
		if m.Role == group.Voter {
			n++
		}
	}
	return n
}
