package cluster

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

const (
	// clockWarn is how far a clock may be off before the log says so.
	clockWarn = 500 * time.Millisecond
	// clockLead is how far a leader may be off the median: commands carry its time.
	clockLead = 5 * time.Second
)

// clockCheck remembers how this node's clock compares.
type clockCheck struct {
	// offset is how far the median of the others is ahead of this node.
	offset atomic.Int64
	warned atomic.Bool
}

// ClockOffset returns how far this node's clock is behind the median of the nodes
// that it last compared itself with; negative means ahead.
func (c *Cluster) ClockOffset() time.Duration { return time.Duration(c.clocks.offset.Load()) }

// compareClocks compares this node's clock with those of the voters, until ctx
// ends.
func (c *Cluster) compareClocks(ctx context.Context) error {
	for sleep(ctx, c.cfg.Timings.Clock) {
		offsets := c.clockOffsets(ctx)
		if len(offsets) == 0 {
			continue
		}
		median := medianOffset(offsets)
		c.clocks.offset.Store(int64(median))
		c.judgeClock(ctx, median, len(offsets))
	}
	return nil
}

// judgeClock warns about a wrong clock, once until it is right again, and gives
// up a leadership with a very wrong one.
func (c *Cluster) judgeClock(ctx context.Context, median time.Duration, others int) {
	off := median.Abs() > clockWarn
	if was := c.clocks.warned.Swap(off); off != was {
		event, message := c.log.Warn(), "clock differs from the others'"
		if !off {
			event, message = c.log.Info(), "clock agrees with the others' again"
		}
		event.Dur("offset", median).Int("nodes", others).Msg(message)
	}
	// With one other node nobody can tell whose clock is wrong.
	if median.Abs() <= clockLead || others < 2 || !c.group.IsLeader() {
		return
	}
	c.log.Error().Dur("offset", median).Msg("leader's clock is wrong, handing over")
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timings.RPC)
	defer cancel()
	if err := c.group.TransferLeadership(ctx, ""); err != nil {
		c.log.Warn().Err(err).Msg("leadership not handed over")
	}
}

// medianOffset returns how far the median of all clocks is ahead of ours, which
// is one of them.
func medianOffset(others []time.Duration) time.Duration {
	all := append(slices.Clone(others), 0)
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// clockOffsets asks the other voters, one after the other: they are few, and it
// is rare.
func (c *Cluster) clockOffsets(ctx context.Context) []time.Duration {
	var offsets []time.Duration
	for _, m := range c.View().Members() {
		if m.ID == c.id.ID || m.Role != clusterpb.Role_ROLE_VOTER || !c.seenAlive(m.ID) {
			continue
		}
		if offset, err := c.clockOffset(ctx, m.ID); err == nil {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// clockOffset returns how far another node's clock is ahead, taking its answer to
// be of the middle of the exchange.
func (c *Cluster) clockOffset(ctx context.Context, node state.NodeID) (time.Duration, error) {
	conn, err := c.conns.get(node)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timings.RPC)
	defer cancel()
	wall, start := c.cfg.Clock.Now(), time.Now()
	res, err := clusterpb.NewControlServiceClient(conn).Check(ctx, &clusterpb.CheckRequest{})
	if err != nil {
		return 0, fromStatus(err)
	}
	middle := wall.Add(time.Since(start) / 2)
	return time.Unix(0, res.GetTimeUnixNs()).Sub(middle), nil
}
