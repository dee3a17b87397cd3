package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

const (
	// feedBatch is how many bytes of commands one step of the feed carries.
	feedBatch = 1 << 20
	// feedChunk is the size of a part of a snapshot.
	feedChunk = 256 << 10
)

// feedTo serves one observer: a snapshot if it needs one, then committed commands
// as they come, until its call ends. Any Raft member serves it, with or without a
// quorum, and only from what its own state has applied.
//
// It is a long-poll that does not have to be asked again: an idle feed costs both
// ends one small message per Timings.Idle.
func (c *Cluster) feedTo(req *clusterpb.FollowRequest, stream grpc.ServerStreamingServer[clusterpb.FollowResponse]) error {
	node, _ := PeerID(stream.Context())
	epoch := *c.epoch.Load()
	if epoch == "" || c.group.RoleOf(group.NodeID(c.id.ID)) == group.Observer {
		return fmt.Errorf("feed commands: %w", ErrNotHere)
	}
	after, snapshot := state.Index(req.GetAfter()), req.GetEpoch() != epoch
	for {
		if err := c.admit(node); err != nil {
			return err
		}
		if snapshot {
			var err error
			if after, err = c.feedSnapshot(stream, epoch); err != nil {
				return err
			}
		}
		batch, err := c.nextBatch(stream.Context(), after)
		if err != nil {
			return err
		}
		if snapshot = batch.SnapshotNeeded; snapshot {
			continue
		}
		after = max(after, state.Index(batch.Through))
		if err := stream.Send(c.feedStep(epoch, after, batch)); err != nil {
			return err
		}
	}
}

// nextBatch waits for commands, at most Timings.Idle.
func (c *Cluster) nextBatch(ctx context.Context, after state.Index) (group.Batch, error) {
	poll, cancel := context.WithTimeout(ctx, c.cfg.Timings.Idle)
	defer cancel()
	batch, err := c.group.Follow(poll, group.Index(after), feedBatch)
	if err != nil {
		return group.Batch{}, fromGroup(err)
	}
	return batch, ctx.Err()
}

func (c *Cluster) feedStep(epoch string, through state.Index, batch group.Batch) *clusterpb.FollowResponse {
	leader, _ := c.group.Leader()
	step := &clusterpb.FollowResponse{Leader: string(leader), Index: uint64(through), Epoch: epoch}
	for _, e := range batch.Entries {
		step.Entries = append(step.Entries, &clusterpb.Entry{Index: uint64(e.Index), Data: e.Data})
	}
	return step
}

// feedSnapshot sends the present state and returns its position. It needs no
// snapshot of Raft's: a view never changes, so it is one already.
func (c *Cluster) feedSnapshot(stream grpc.ServerStreamingServer[clusterpb.FollowResponse], epoch string) (state.Index, error) {
	if err := c.machine.Halted(); err != nil {
		return 0, fmt.Errorf("feed a snapshot: %w: %w", ErrNotHere, err)
	}
	// The position first: the view may only be newer, and what a snapshot already
	// holds is ignored when it comes again.
	position, _ := c.machine.Position()
	view := c.View()
	if position == 0 {
		return 0, fmt.Errorf("feed a snapshot: nothing is committed: %w", ErrNotHere)
	}
	send := func(chunk *clusterpb.SnapshotChunk) error {
		return stream.Send(&clusterpb.FollowResponse{Index: uint64(position), Epoch: epoch, Snapshot: chunk})
	}
	// Snapshot uses a buffer that is large enough as it is, and flushes it.
	chunks := bufio.NewWriterSize(chunkWriter(func(data []byte) error {
		return send(&clusterpb.SnapshotChunk{Data: data})
	}), feedChunk)
	if err := view.Snapshot(chunks); err != nil {
		return 0, err
	}
	return position, send(&clusterpb.SnapshotChunk{Last: true})
}

// chunkWriter cuts what is written into messages.
type chunkWriter func([]byte) error

var _ io.Writer = chunkWriter(nil)

// Write implements io.Writer.
func (w chunkWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += feedChunk {
		if err := w(p[n:min(n+feedChunk, len(p))]); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// errNoSource means that no node is known to follow.
var errNoSource = errors.New("no node to follow is known")
