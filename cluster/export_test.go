package cluster

import (
	"context"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// JoinAs asks to join under any id and key, as a machine that lies would.
func JoinAs(ctx context.Context, cfg Config, text string, id state.NodeID) error {
	token, err := trust.ParseJoinToken(text)
	if err != nil {
		return err
	}
	key, err := trust.NewKey()
	if err != nil {
		return err
	}
	req, err := joinRequest(cfg, token, key)
	if err != nil {
		return err
	}
	req.Member.Id = string(id)
	_, err = askToJoin(ctx, cfg, token, req)
	return err
}

// PushKeys sends worthless keys to another node.
func (c *Cluster) PushKeys(ctx context.Context, to state.NodeID) error {
	conn, err := c.conns.get(to)
	if err != nil {
		return err
	}
	_, err = clusterpb.NewControlServiceClient(conn).TakeCustody(ctx, &clusterpb.TakeCustodyRequest{})
	return fromStatus(err)
}

// TransferLeadership hands the leadership to any other voter.
func (c *Cluster) TransferLeadership(ctx context.Context) error {
	return c.group.TransferLeadership(ctx, "")
}

// Epoch returns the history of the log that the node's state belongs to.
func (c *Cluster) Epoch() string { return *c.epoch.Load() }
