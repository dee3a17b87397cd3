package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// Backup writes the state, as of one index that is no older than the call, and
// returns the view that it wrote. No keys are in it: neither the authority's nor
// the one that secrets are encrypted with.
func (c *Cluster) Backup(ctx context.Context, w io.Writer) (*state.View, error) {
	view, err := c.Consistent(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up state: %w", err)
	}
	if err := view.Snapshot(w); err != nil {
		return nil, fmt.Errorf("back up state: %w", err)
	}
	return view, nil
}

// Restore makes the data directory of a new cluster that begins with the apps,
// functions, limits, API tokens and usage of a backup. Cluster, node and keys are
// new: the nodes of the old cluster, should any still live, are strangers to it.
// Access keys are left out and named in the result.
// The reader must hold what Backup wrote and nothing else.
func Restore(_ context.Context, cfg Config, r io.Reader) (*InitResult, error) {
	view, err := state.ReadSnapshot(r)
	if err != nil {
		return nil, fmt.Errorf("restore cluster: %w", err)
	}
	result, err := found(cfg, view)
	if err != nil {
		return nil, fmt.Errorf("restore cluster: %w", err)
	}
	return result, nil
}

// RecoverReport tells what Recover found and did, or would do.
type RecoverReport struct {
	group.RecoverReport
	// Removed are the other members of the old Raft configuration. Their ids are
	// burned: those that still live must be wiped and join anew, because their logs
	// may hold another end of the story.
	Removed []state.NodeID
}

// Recover makes this node the only voter of its cluster. It is for a cluster whose
// other voters are lost for good, with the daemon stopped; run it on the survivor
// with the longest log. The Raft directory is copied first. Commands on this disk
// count from then on even if the lost majority never agreed to them. Observers
// find out by themselves and take this node's state.
func Recover(ctx context.Context, cfg Config, dryRun bool) (*RecoverReport, error) {
	report, err := recoverDir(ctx, cfg, dryRun)
	if err != nil {
		return report, fmt.Errorf("recover cluster: %w", err)
	}
	return report, nil
}

func recoverDir(ctx context.Context, cfg Config, dryRun bool) (*RecoverReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	id, err := dir.identity()
	if err != nil {
		return nil, err
	}
	address, err := cfg.Peer.advertisedUnbound()
	if err != nil {
		return nil, err
	}
	self := group.NodeID(id.ID)
	// The state machine that the log is replayed into is used up; its copy on disk
	// goes with it.
	scratch, err := os.MkdirTemp(dir.path, "recover-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	machine, err := newMachine(scratch, cfg.Logger)
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	inner, err := group.Recover(ctx, group.RecoverConfig{
		Dir: dir.file(raftDir), ID: self, Advertise: address,
		Voters: []group.Server{{ID: self, Addr: address}}, FSM: machine,
		Backup: dir.file("raft-backup-" + time.Now().UTC().Format("20060102T150405.000")),
		DryRun: dryRun, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	report := &RecoverReport{RecoverReport: *inner}
	var burn []*clusterpb.Command
	for _, m := range inner.Old {
		if m.ID != self {
			report.Removed = append(report.Removed, state.NodeID(m.ID))
			burn = append(burn, &clusterpb.Command{Op: &clusterpb.Command_RemoveMember{
				RemoveMember: &clusterpb.RemoveMember{Id: string(m.ID)},
			}})
		}
	}
	if dryRun {
		return report, nil
	}
	// The new epoch tells observers that indexes they know may mean something else.
	return report, errors.Join(dir.setPending(burn), dir.setEpoch(uuid.NewString()), os.RemoveAll(dir.file(copyDir)))
}
