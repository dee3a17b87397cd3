package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/clustertest"
)

// TestObserversFollowAndServe is the life of a node beyond voters and standbys: it
// agrees with them, writes and reads through the leader, restarts without a
// quorum, and catches up.
func TestObserversFollowAndServe(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 6)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var observer *clustertest.Node
	clustertest.Eventually(t, 20*time.Second, "have an observer", func() error {
		standbys := 0
		for _, m := range fleet.Nodes()[0].Cluster().View().Members() {
			if m.Role == clusterpb.Role_ROLE_STANDBY {
				standbys++
			}
		}
		if found := fleet.Observers(); len(found) == 1 && standbys == 2 {
			observer = found[0]
			return nil
		}
		return fmt.Errorf("%d observers and %d standbys", len(fleet.Observers()), standbys)
	})

	if err := clustertest.PutLimits(ctx, observer, "x", 1); err != nil {
		t.Fatalf("write through the observer: %v", err)
	}
	view, err := observer.Cluster().Consistent(ctx)
	if err != nil || clustertest.LimitOf(view, "x") != 1 {
		t.Fatalf("consistent read on the observer: %v", err)
	}
	fleet.AwaitSameState()

	// It misses something while it is off, and is told.
	observer.Kill()
	if err := clustertest.PutLimits(ctx, fleet.Leader(), "x", 2); err != nil {
		t.Fatal(err)
	}
	observer.Start()
	observer.AwaitReady()
	fleet.AwaitSameState()

	// Everybody else goes; it restarts and still knows.
	for _, n := range fleet.Nodes() {
		if n != observer {
			n.Kill()
		}
	}
	observer.Kill()
	observer.Start()
	observer.AwaitReady()
	if got := clustertest.LimitOf(observer.Cluster().View(), "x"); got != 2 {
		t.Errorf("observer without a quorum reads %d, want 2", got)
	}
	short, cancelShort := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancelShort()
	if err := clustertest.PutLimits(short, observer, "x", 3); err == nil {
		t.Error("observer wrote without a quorum")
	}
}

// TestLostVoterIsReplaced: a standby takes the vote of a voter that stays away,
// and the old one comes back as what is needed then, with its id.
func TestLostVoterIsReplaced(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	leader := fleet.Leader()
	var lost *clustertest.Node
	for _, n := range fleet.Voters() {
		if n != leader {
			lost = n
		}
	}
	id := lost.Cluster().ID()
	lost.Kill()
	clustertest.Eventually(t, 30*time.Second, "replace the lost voter", func() error {
		view := leader.Cluster().View()
		if view.Member(id).Role == clusterpb.Role_ROLE_VOTER {
			return errors.New("lost node still votes")
		}
		return nil
	})
	fleet.AwaitSettled()
	if err := clustertest.PutLimits(ctx, leader, "while-off", 1); err != nil {
		t.Fatal(err)
	}
	lost.Start()
	lost.AwaitReady()
	if lost.Cluster().ID() != id {
		t.Error("node came back with another id")
	}
	fleet.AwaitSameState()
	fleet.AwaitSettled()
}
