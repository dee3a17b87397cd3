package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// handOver sends the voters' keys to a node and returns when they are on its
// disk. It runs on the leader.
func (c *Cluster) handOver(ctx context.Context, node state.NodeID) error {
	custody, ok := c.creds.Custody()
	if !ok {
		return fmt.Errorf("this voter has no keys to hand over: %w", ErrNotHere)
	}
	if m := c.View().Member(node); m == nil {
		return fmt.Errorf("node %s: %w", node, ErrUnknownNode)
	}
	key, kek, err := trust.MarshalCustody(custody)
	if err != nil {
		return err
	}
	conn, err := c.conns.get(node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timings.RPC)
	defer cancel()
	_, err = clusterpb.NewControlServiceClient(conn).TakeCustody(ctx, &clusterpb.TakeCustodyRequest{
		AuthorityKey: key, Kek: kek,
	})
	return fromStatus(err)
}

// takeCustody stores the voters' keys before this node votes.
func (c *Cluster) takeCustody(custody trust.Custody) error {
	if err := c.creds.TakeCustody(custody); err != nil {
		return err
	}
	c.custodyAt.Store(time.Now().UnixNano())
	return nil
}

// keepCustody wipes the voters' keys on a node that votes no more. A standby that
// was handed them and is about to vote keeps them for a while.
func (c *Cluster) keepCustody(ctx context.Context) error {
	grace := c.cfg.Timings.Raft.Stable + 4*c.cfg.Timings.Raft.Reconcile
	tick := time.NewTicker(grace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if !c.wipeDue(grace) {
			continue
		}
		if err := c.creds.DropCustody(); err != nil {
			c.log.Error().Err(err).Msg("keys not wiped")
			continue
		}
		c.log.Info().Msg("keys wiped: this node votes no more")
	}
}

// wipeDue reports whether this node holds keys that it should not: both the state
// and Raft say that it has no vote, there are others who do, and the hand-over is
// not recent. The last voter never wipes.
func (c *Cluster) wipeDue(grace time.Duration) bool {
	if _, held := c.creds.Custody(); !held || c.dir.founding() {
		return false
	}
	if time.Since(time.Unix(0, c.custodyAt.Load())) < grace {
		return false
	}
	view := c.View()
	self := view.Member(c.id.ID)
	if self == nil || self.Role == clusterpb.Role_ROLE_VOTER ||
		c.group.RoleOf(group.NodeID(c.id.ID)) == group.Voter {
		return false
	}
	for _, m := range view.Members() {
		if m.Role == clusterpb.Role_ROLE_VOTER {
			return true
		}
	}
	return false
}
