package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// silentSteps is how many steps a source may be silent, or without a leader,
// before another one is tried.
const silentSteps = 3

// askRemovedAfter is how many attempts in a row fail before this node asks whether
// it was removed.
const askRemovedAfter = 4

// follow keeps the state of an observer current, and that of a Raft member that
// Raft has lost, until ctx ends.
func (c *Cluster) follow(ctx context.Context) error {
	pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.RetryMax)
	var last state.NodeID
	failures := 0
	for {
		if !c.needsFeed() {
			c.feedLeader.Store(nil)
			pause.reset()
			failures = 0
			if !sleep(ctx, c.cfg.Timings.Idle/4) {
				return nil
			}
			continue
		}
		last = c.pickSource(last)
		err := errNoSource
		if last != "" {
			start := time.Now()
			err = c.followFrom(ctx, last)
			if time.Since(start) > c.cfg.Timings.Idle {
				pause.reset()
				failures = 0
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.log.Debug().Err(err).Str("peer", string(last)).Msg("feed ended")
			if failures++; failures%askRemovedAfter == 0 {
				if err := c.askRemoved(ctx); err != nil {
					return fmt.Errorf("follow: %w", err)
				}
			}
		}
		if !pause.wait(ctx) {
			return nil
		}
	}
}

// needsFeed reports whether Raft does not feed this node: it is no member, or
// has heard of no leader for an election timeout.
func (c *Cluster) needsFeed() bool {
	if c.group.IsLeader() {
		return false
	}
	leader, _ := c.group.Leader()
	return leader == "" || c.group.RoleOf(group.NodeID(c.id.ID)) == group.Observer
}

// pickSource returns a Raft member to follow, another than the last one if there
// is one. The leader comes last: it has enough to do.
func (c *Cluster) pickSource(last state.NodeID) state.NodeID {
	leader := c.Leader()
	var best, rest []state.NodeID
	for _, m := range c.View().Members() {
		switch {
		case m.ID == c.id.ID || m.ID == last:
		case m.Role != clusterpb.Role_ROLE_VOTER && m.Role != clusterpb.Role_ROLE_STANDBY:
		case m.ID == leader:
			rest = append(rest, m.ID)
		case c.seenAlive(m.ID):
			best = append(best, m.ID)
		default:
			rest = append(rest, m.ID)
		}
	}
	if len(best) == 0 {
		best = rest
	}
	if len(best) == 0 {
		// A node without any state, or with one that is very old.
		for _, p := range c.dir.peers() {
			if p.ID != c.id.ID && p.ID != last {
				best = append(best, p.ID)
			}
		}
	}
	if len(best) == 0 {
		return last
	}
	return best[rand.IntN(len(best))]
}

// seenAlive is gossip's opinion.
func (c *Cluster) seenAlive(node state.NodeID) bool {
	p, ok := c.gossip.Peer(node)
	return ok && p.Alive
}

// followFrom follows one source until it fails, falls silent or is not needed.
func (c *Cluster) followFrom(ctx context.Context, source state.NodeID) error {
	conn, err := c.conns.get(source)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := silentSteps * c.cfg.Timings.Idle
	watchdog := time.AfterFunc(limit, func() { cancel(fmt.Errorf("source %s is silent: %w", source, ErrUnreachable)) })
	defer watchdog.Stop()

	position, _ := c.machine.Position()
	stream, err := clusterpb.NewControlServiceClient(conn).Follow(ctx, &clusterpb.FollowRequest{
		After: uint64(position), Epoch: *c.epoch.Load(),
	})
	if err != nil {
		return fromStatus(err)
	}
	in := &intake{c: c}
	defer in.close()
	leaderless := 0
	for {
		step, err := stream.Recv()
		if err != nil {
			return errors.Join(context.Cause(ctx), fromStatus(err))
		}
		watchdog.Reset(limit)
		if err := in.take(step); err != nil {
			return err
		}
		if step.GetLeader() != "" || step.GetSnapshot() != nil {
			leaderless = 0
		} else if leaderless++; leaderless >= silentSteps {
			return fmt.Errorf("source %s knows no leader: %w", source, ErrNoLeader)
		}
		if !c.needsFeed() {
			return nil
		}
	}
}

// intake turns the steps of a feed into the state.
type intake struct {
	c *Cluster
	// snapshot collects the parts of a snapshot: in a file, because it may be
	// larger than what an observer should hold twice.
	snapshot *os.File
}

func (in *intake) take(step *clusterpb.FollowResponse) error {
	if chunk := step.GetSnapshot(); chunk != nil {
		return in.takeChunk(step, chunk)
	}
	in.c.setFeedLeader(step.GetLeader())
	if step.GetEpoch() != *in.c.epoch.Load() {
		return fmt.Errorf("feed of epoch %s without a snapshot: %w", step.GetEpoch(), ErrNotHere)
	}
	for _, e := range step.GetEntries() {
		answer, ok := in.c.machine.Apply(group.Index(e.GetIndex()), e.GetData()).(applied)
		if ok && answer.err != nil && !errors.Is(answer.err, state.ErrIndex) {
			return fmt.Errorf("follow: %w: %w", ErrTooNew, answer.err)
		}
	}
	in.c.machine.skipTo(state.Index(step.GetIndex()))
	return nil
}

func (in *intake) takeChunk(step *clusterpb.FollowResponse, chunk *clusterpb.SnapshotChunk) error {
	if in.snapshot == nil {
		f, err := os.CreateTemp(in.c.dir.file(copyDir), "feed-*")
		if err != nil {
			return fmt.Errorf("receive snapshot: %w", err)
		}
		in.snapshot = f
	}
	if _, err := in.snapshot.Write(chunk.GetData()); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	if !chunk.GetLast() {
		return nil
	}
	defer in.close()
	if _, err := in.snapshot.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	return in.c.adopt(state.Index(step.GetIndex()), step.GetEpoch(), in.snapshot)
}

// adopt takes a snapshot from the feed. Within one history a state never goes
// back; another history replaces it.
func (c *Cluster) adopt(index state.Index, epoch string, snapshot io.Reader) error {
	same := epoch == *c.epoch.Load()
	if position, _ := c.machine.Position(); same && index <= position {
		return nil
	}
	if err := c.machine.replace(index, snapshot); err != nil {
		return err
	}
	if !same {
		// After the state: a crash in between fetches it once more.
		if err := c.dir.setEpoch(epoch); err != nil {
			return err
		}
		c.epoch.Store(&epoch)
		c.log.Info().Uint64("index", uint64(index)).Msg("state of a new epoch adopted")
	}
	return nil
}

// close drops a snapshot that is done or unfinished.
func (in *intake) close() {
	if in.snapshot != nil {
		_ = in.snapshot.Close()
		_ = os.Remove(in.snapshot.Name())
		in.snapshot = nil
	}
}

// setFeedLeader notes whom the feed names as leader.
func (c *Cluster) setFeedLeader(leader string) {
	if leader == "" {
		c.feedLeader.Store(nil)
		return
	}
	id := state.NodeID(leader)
	c.feedLeader.Store(&id)
}
