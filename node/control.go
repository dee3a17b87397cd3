package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/usage"
)

// control is the cluster as the API sees it: the same calls, with the errors
// that the API can tell apart.
type control struct{ cluster *cluster.Cluster }

var _ api.Control = control{}

// View implements api.Control.
func (c control) View() *state.View { return c.cluster.View() }

// Consistent implements api.Control.
func (c control) Consistent(ctx context.Context) (*state.View, error) {
	view, err := c.cluster.Consistent(ctx)
	return view, controlError(err)
}

// Propose implements api.Control.
func (c control) Propose(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.Result, error) {
	result, err := c.cluster.Propose(ctx, cmd)
	return result, controlError(err)
}

func controlError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrNoLeader), errors.Is(err, cluster.ErrOutcomeUnknown):
		return fmt.Errorf("%w: %w", api.ErrNoQuorum, err)
	case errors.Is(err, cluster.ErrOverloaded):
		return fmt.Errorf("%w: %w", api.ErrOverloaded, err)
	}
	return err
}

// commitUsage hands a closed hour to the cluster. The hour's number is the
// report's sequence number: hours of one boot are committed in order.
func (n *Node) commitUsage(ctx context.Context, h usage.Hour) error {
	cmd := &clusterpb.RecordUsage{
		Node: string(n.cluster.ID()), Boot: h.Boot, Seq: uint64(h.Start / 3600), HourUnixMs: h.Start * 1000,
	}
	for _, r := range h.Rows {
		cmd.Usage = append(cmd.Usage, usageToPB(r))
	}
	result, err := n.cluster.Propose(ctx, &clusterpb.Command{Op: &clusterpb.Command_RecordUsage{RecordUsage: cmd}})
	if err != nil {
		return err
	}
	return state.Refused(result)
}
