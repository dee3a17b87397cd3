package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clustertest"
	"github.com/covey-dev/covey/cluster/state"
)

func TestBackupBecomesANewCluster(t *testing.T) {
	t.Parallel()
	fleet, fresh := clustertest.Start(t, 2), clustertest.New(t, clustertest.FixedPorts())
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	old := fleet.Nodes()[1]
	if err := clustertest.PutLimits(ctx, old, "kept", 9); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	view, err := old.Cluster().Backup(ctx, &b)
	if err != nil {
		t.Fatal(err)
	}
	if clustertest.LimitOf(view, "kept") != 9 {
		t.Error("backup is older than an acknowledged write")
	}
	key, err := os.ReadFile(filepath.Join(fleet.Nodes()[0].Dir(), "keys", "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Bytes(), key[40:80]) {
		t.Error("the authority's key is in the backup")
	}

	n := fresh.Empty()
	if _, err := cluster.Restore(ctx, n.Config(), bytes.NewReader(b.Bytes()[:b.Len()-3])); err == nil {
		t.Error("cut backup restored")
	}
	result, err := cluster.Restore(ctx, n.Config(), &b)
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.AwaitReady()
	if n.Cluster().ClusterID() == old.Cluster().ClusterID() || result.ClusterID != n.Cluster().ClusterID() {
		t.Error("restored cluster has the old id")
	}
	if got := clustertest.LimitOf(n.Cluster().View(), "kept"); got != 9 {
		t.Errorf("restored state reads %d, want 9", got)
	}
	if got := n.Cluster().View().MemberCount(); got != 1 {
		t.Errorf("restored cluster has %d members, want 1", got)
	}
	// It grows and outlives a restart, like any other.
	fresh.Join()
	n.Kill()
	n.Start()
	fresh.AwaitSettled()
	fresh.AwaitSameState()
	if got := clustertest.LimitOf(fresh.Nodes()[1].Cluster().View(), "kept"); got != 9 {
		t.Errorf("second node of the restored cluster reads %d, want 9", got)
	}
}

// TestRecoverFromLostQuorum: two of three disks are gone for good. The survivor
// goes on alone, the lost ones are burned, an observer that followed them takes
// the survivor's state.
func TestRecoverFromLostQuorum(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := clustertest.PutLimits(ctx, fleet.Nodes()[0], "kept", 4); err != nil {
		t.Fatal(err)
	}
	fleet.AwaitSameState()
	survivor := fleet.Nodes()[2]
	lost := map[state.NodeID]bool{}
	for _, n := range fleet.Nodes() {
		if n != survivor {
			lost[n.Cluster().ID()] = true
		}
		n.Kill()
	}
	id, cid := survivor.Cluster().ID(), survivor.Cluster().ClusterID()

	report, err := cluster.Recover(ctx, survivor.Config(), true)
	if err != nil {
		t.Fatal(err)
	}
	if report.Done || len(report.Removed) != 2 || !lost[report.Removed[0]] || !lost[report.Removed[1]] {
		t.Errorf("dry run reports %+v", report)
	}
	if report, err = cluster.Recover(ctx, survivor.Config(), false); err != nil || !report.Done {
		t.Fatalf("recover: %+v, %v", report, err)
	}
	if _, err := os.Stat(report.Backup); err != nil {
		t.Errorf("no backup of the Raft directory: %v", err)
	}
	survivor.Start()
	survivor.AwaitReady()
	if survivor.Cluster().ID() != id || survivor.Cluster().ClusterID() != cid {
		t.Error("survivor is another node or cluster now")
	}
	if err := clustertest.PutLimits(ctx, survivor, "new", 1); err != nil {
		t.Fatalf("write after the recovery: %v", err)
	}
	view, err := survivor.Cluster().Consistent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if clustertest.LimitOf(view, "kept") != 4 {
		t.Error("recovery lost the state")
	}
	clustertest.Eventually(t, 20*time.Second, "burn the lost nodes", func() error {
		for n := range lost {
			if !survivor.Cluster().View().Removed(n) {
				return fmt.Errorf("node %s is not removed", n)
			}
		}
		return nil
	})
	// One of them turns out to live. It must not bring the old cluster back.
	back := fleet.Nodes()[0]
	back.Start()
	clustertest.Eventually(t, 20*time.Second, "be alone", func() error {
		if leader := back.Cluster().Leader(); leader != "" {
			return fmt.Errorf("burned node names leader %s", leader)
		}
		return nil
	})
	if _, err := survivor.Cluster().Dial(ctx, back.Cluster().ID(), "covey-rpc"); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("survivor talks to a burned node: %v", err)
	}
	back.Kill()
	fleet.Join()
	fleet.AwaitSettled()
}

func TestLeaveHandsTheVoteOver(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	leaving := fleet.Leader()
	id := leaving.Cluster().ID()
	if err := leaving.Cluster().Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if err := leaving.Err(); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("node that left ended with %v, want ErrRemoved", err)
	}
	leaving.Kill()
	fleet.AwaitSettled()
	other := fleet.Leader()
	if !other.Cluster().View().Removed(id) {
		t.Error("node that left is still a member")
	}
	if err := clustertest.PutLimits(ctx, other, "after", 1); err != nil {
		t.Error(err)
	}
}
