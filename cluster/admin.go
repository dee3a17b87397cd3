package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// tokenAddresses bounds the addresses in a join token: enough to find somebody,
// few enough to paste.
const tokenAddresses = 5

// CreateJoinToken makes a token with which machines can join until ttl is over, at
// most uses of them; 0 means any number. The secret is in the returned token
// alone.
func (c *Cluster) CreateJoinToken(ctx context.Context, ttl time.Duration, uses int) (string, error) {
	if ttl <= 0 || uses < 0 {
		return "", fmt.Errorf("create join token: ttl %v or uses %d is out of range", ttl, uses)
	}
	token, command := newJoinToken(c.creds.Authority(), c.joinAddresses(), c.cfg.Clock.Now().Add(ttl), uses)
	if err := c.do(ctx, command); err != nil {
		return "", fmt.Errorf("create join token: %w", err)
	}
	return token, nil
}

// joinAddresses returns this node's peer address and those of some others.
func (c *Cluster) joinAddresses() []string {
	addresses := []string{c.peerAddress}
	for _, m := range c.introductions() {
		if a := m.GetPeerAddress(); a != "" && a != c.peerAddress && len(addresses) < tokenAddresses {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// SetDraining takes a member out of placement, or back in. A draining member
// gives its vote away when another can take it.
func (c *Cluster) SetDraining(ctx context.Context, node state.NodeID, draining bool) error {
	err := c.do(ctx, &clusterpb.Command{Op: &clusterpb.Command_SetDraining{
		SetDraining: &clusterpb.SetDraining{Id: string(node), Draining: draining},
	}})
	if err != nil {
		return fmt.Errorf("set draining of node %s: %w", node, err)
	}
	return nil
}

// RemoveMember removes a node for good: its id is burned, its connections are
// cut, and every node refuses it from then on. Removing a voter is refused if the
// voters that would be left have no live majority.
func (c *Cluster) RemoveMember(ctx context.Context, node state.NodeID) error {
	err := c.checkRemoval(node)
	if err == nil {
		err = c.do(ctx, &clusterpb.Command{Op: &clusterpb.Command_RemoveMember{
			RemoveMember: &clusterpb.RemoveMember{Id: string(node)},
		}})
	}
	if err != nil {
		return fmt.Errorf("remove node %s: %w", node, err)
	}
	return nil
}

// checkRemoval keeps an operator from removing the quorum. Who lives is gossip's
// opinion, which is good enough to ask a person to think again.
func (c *Cluster) checkRemoval(node state.NodeID) error {
	voter, left, alive := false, 0, 0
	for _, p := range c.Peers() {
		switch {
		case p.Role != clusterpb.Role_ROLE_VOTER:
		case p.ID == node:
			voter = true
		default:
			left++
			if p.Alive {
				alive++
			}
		}
	}
	if voter && alive <= left/2 {
		return fmt.Errorf("%d of %d other voters are alive: %w", alive, left, ErrWouldLoseQuorum)
	}
	return nil
}

// Leave removes this node from the cluster for good: it drains, waits until it
// votes no more, and then removes itself. Run returns ErrRemoved afterwards. If
// nobody can take its vote before ctx ends, it stays a draining member.
func (c *Cluster) Leave(ctx context.Context) error {
	if err := c.SetDraining(ctx, c.id.ID, true); err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.RetryMax)
	for c.group.RoleOf(group.NodeID(c.id.ID)) == group.Voter || c.votes() {
		if !pause.wait(ctx) {
			return fmt.Errorf("leave cluster: no other node takes this one's vote: %w", ctx.Err())
		}
	}
	if err := c.RemoveMember(ctx, c.id.ID); err != nil {
		return fmt.Errorf("leave cluster: %w", err)
	}
	return nil
}

// votes reports whether the state counts this node among the voters.
func (c *Cluster) votes() bool {
	m := c.View().Member(c.id.ID)
	return m != nil && m.Role == clusterpb.Role_ROLE_VOTER
}

// do proposes a command and turns a refusal into an error.
func (c *Cluster) do(ctx context.Context, command *clusterpb.Command) error {
	result, err := c.Propose(ctx, command)
	if err != nil {
		return err
	}
	return state.Refused(result)
}
