package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clustertest"
	"github.com/covey-dev/covey/cluster/state"
)

// TestR2RebootOfAllNodesEndsInOneCluster: every start binds new ports, so each
// node also comes back on another address.
func TestR2RebootOfAllNodesEndsInOneCluster(t *testing.T) {
	t.Parallel()
	// With fixed ports, as after a power cut: nobody is left who could tell the
	// others a new address.
	fleet := clustertest.Start(t, 3, clustertest.FixedPorts())
	before := fleet.Nodes()[0].Cluster().ClusterID()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for round := range clustertest.Times(2, 50) {
		app := fmt.Sprintf("round-%d", round)
		if err := clustertest.PutLimits(ctx, fleet.Nodes()[round%3], app, 7); err != nil {
			t.Fatalf("round %d: write: %v", round, err)
		}
		for _, n := range fleet.Nodes() {
			n.Kill()
		}
		start := time.Now()
		for _, n := range fleet.Nodes() {
			n.Start()
		}
		fleet.Leader()
		fleet.AwaitSettled()
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("round %d: whole again after %v", round, took)
		}
		for _, n := range fleet.Nodes() {
			view, err := n.Cluster().Consistent(ctx)
			if err != nil {
				t.Fatalf("round %d: read: %v", round, err)
			}
			if view.ClusterID() != before || clustertest.LimitOf(view, app) != 7 {
				t.Fatalf("round %d: node %d lost the cluster or the write", round, n.Number)
			}
		}
	}
}

// TestR14KilledNodeReturnsOnAnotherAddress: same id, new ports, no goodbye.
func TestR14KilledNodeReturnsOnAnotherAddress(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	// The leader too: the last round kills it.
	victims := []*clustertest.Node{fleet.Nodes()[2], fleet.Leader()}
	for i, victim := range victims {
		id, address := victim.Cluster().ID(), victim.Cluster().PeerAddress()
		victim.Kill()
		victim.Start()
		victim.AwaitReady()
		if victim.Cluster().ID() != id || victim.Cluster().PeerAddress() == address {
			t.Fatalf("node came back as %s on %s", victim.Cluster().ID(), victim.Cluster().PeerAddress())
		}
		if err := clustertest.PutLimits(ctx, victim, "back", uint32(i+1)); err != nil {
			t.Fatalf("write through the returned node: %v", err)
		}
		clustertest.Eventually(t, 20*time.Second, "record the new address", func() error {
			for _, n := range fleet.Nodes() {
				m := n.Cluster().View().Member(id)
				if m == nil || m.PeerAddress != victim.Cluster().PeerAddress() {
					return fmt.Errorf("node %d has not recorded it", n.Number)
				}
				for _, p := range n.Cluster().Peers() {
					if p.ID == id && (!p.Alive || p.PeerAddress != victim.Cluster().PeerAddress()) {
						return fmt.Errorf("node %d sees %+v", n.Number, p)
					}
				}
			}
			return nil
		})
		fleet.AwaitSettled()
	}
	fleet.AwaitSameState()
}

// TestNoQuorumStillServes: the last of three nodes answers reads, also after a
// restart, and says of writes that there is no leader.
func TestNoQuorumStillServes(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := clustertest.PutLimits(ctx, fleet.Nodes()[0], "kept", 5); err != nil {
		t.Fatal(err)
	}
	fleet.AwaitSameState()
	last := fleet.Nodes()[2]
	fleet.Nodes()[0].Kill()
	fleet.Nodes()[1].Kill()
	check := func(when string) {
		t.Helper()
		if got := clustertest.LimitOf(last.Cluster().View(), "kept"); got != 5 {
			t.Errorf("%s: node reads %d, want 5", when, got)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := clustertest.PutLimits(short, last, "new", 1)
		if !errors.Is(err, cluster.ErrNoLeader) && !errors.Is(err, cluster.ErrOutcomeUnknown) {
			t.Errorf("%s: write without quorum: %v", when, err)
		}
		if _, err := last.Cluster().Consistent(short); !errors.Is(err, cluster.ErrNoLeader) {
			t.Errorf("%s: consistent read without quorum: %v, want ErrNoLeader", when, err)
		}
	}
	check("alone")
	last.Kill()
	last.Start()
	last.AwaitReady()
	check("alone and restarted")
}

// TestR3StaleLeaderServesNoConsistentRead: the leader is cut off, another one
// writes, and the old one must not answer with what it still believes.
func TestR3StaleLeaderServesNoConsistentRead(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	old := fleet.Leader()
	if err := clustertest.PutLimits(ctx, old, "x", 1); err != nil {
		t.Fatal(err)
	}
	fleet.Isolate(old)
	// Reads run on the old leader from the cut on; each answer must be as new as
	// what was acknowledged before it was asked.
	var others []*clustertest.Node
	for _, n := range fleet.Nodes() {
		if n != old {
			others = append(others, n)
		}
	}
	clustertest.Eventually(t, 20*time.Second, "write without the old leader", func() error {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return clustertest.PutLimits(short, others[0], "x", 2)
	})
	short, cancelShort := context.WithTimeout(ctx, time.Second)
	defer cancelShort()
	if view, err := old.Cluster().Consistent(short); err == nil && clustertest.LimitOf(view, "x") != 2 {
		t.Errorf("isolated leader read %d as consistent, want 2", clustertest.LimitOf(view, "x"))
	} else if err != nil && !errors.Is(err, cluster.ErrNoLeader) {
		t.Errorf("isolated leader: %v, want ErrNoLeader", err)
	}
	fleet.Heal(old)
	clustertest.Eventually(t, 20*time.Second, "catch up after the cut", func() error {
		if got := clustertest.LimitOf(old.Cluster().View(), "x"); got != 2 {
			return fmt.Errorf("healed leader reads %d", got)
		}
		return nil
	})
	fleet.AwaitSameState()
}

// TestR16OneWayCutIsSurvived: the leader cannot reach a follower, which still
// reaches the leader.
func TestR16OneWayCutIsSurvived(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	leader := fleet.Leader()
	var follower *clustertest.Node
	for _, n := range fleet.Nodes() {
		if n != leader {
			follower = n
		}
	}
	fleet.CutOneWay(leader, follower)
	// Writes go on, also through the half-deaf node, and it sees them: by another
	// leader or by the feed.
	clustertest.Eventually(t, 20*time.Second, "write through the cut node", func() error {
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return clustertest.PutLimits(short, follower, "x", 3)
	})
	clustertest.Eventually(t, 20*time.Second, "see the write behind the cut", func() error {
		for _, n := range fleet.Nodes() {
			if got := clustertest.LimitOf(n.Cluster().View(), "x"); got != 3 {
				return fmt.Errorf("node %d reads %d", n.Number, got)
			}
		}
		return nil
	})
	fleet.MendOneWay(leader, follower)
	fleet.Leader()
	fleet.AwaitSameState()
}

// TestClockOfTheLeaderIsWatched: a leader whose clock is far off hands over.
func TestClockOfTheLeaderIsWatched(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	old := fleet.Leader()
	old.Clock.Skew(-time.Minute)
	clustertest.Eventually(t, 20*time.Second, "lose the leadership to a right clock", func() error {
		if old.Cluster().IsLeader() {
			return errors.New("still leads")
		}
		if off := old.Cluster().ClockOffset(); off < 50*time.Second {
			return fmt.Errorf("measures an offset of %v", off)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Its writes still carry its time; state time does not go back for it.
	before := fleet.Leader().Cluster().View().Time()
	if err := clustertest.PutLimits(ctx, old, "late", 1); err != nil {
		t.Fatal(err)
	}
	if after := old.Cluster().View().Time(); after.Before(before) {
		t.Errorf("state time went back from %v to %v", before, after)
	}
}

// TestRemovedNodeIsCutOff: every node refuses it at once.
func TestRemovedNodeIsCutOff(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	leader := fleet.Leader()
	var victim *clustertest.Node
	for _, n := range fleet.Nodes() {
		if n != leader {
			victim = n
		}
	}
	id := victim.Cluster().ID()
	if err := leader.Cluster().RemoveMember(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := victim.Err(); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("removed node ended with %v, want ErrRemoved", err)
	}
	if _, err := leader.Cluster().Dial(ctx, id, "covey-rpc"); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("dial of a removed node: %v, want ErrRemoved", err)
	}
	if err := clustertest.PutLimits(ctx, leader, "after", 1); err != nil {
		t.Errorf("write after the removal: %v", err)
	}
	victim.Kill()
	fleet.AwaitSettled()
}

// TestQuorumIsNotRemovedByMistake: with one of three voters dead, removing a live
// one is refused.
func TestQuorumIsNotRemovedByMistake(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3, clustertest.Tune(func(c *cluster.Config) { c.Timings.Raft.Replace = time.Hour }))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	leader := fleet.Leader()
	var rest []*clustertest.Node
	for _, n := range fleet.Nodes() {
		if n != leader {
			rest = append(rest, n)
		}
	}
	dead, live := rest[0].Cluster().ID(), rest[1].Cluster().ID()
	rest[0].Kill()
	clustertest.Eventually(t, 20*time.Second, "notice the dead node", func() error {
		for _, p := range leader.Cluster().Peers() {
			if p.ID == dead && p.Alive {
				return errors.New("still seen alive")
			}
		}
		return nil
	})
	if err := leader.Cluster().RemoveMember(ctx, live); !errors.Is(err, cluster.ErrWouldLoseQuorum) {
		t.Errorf("removal of the quorum: %v, want ErrWouldLoseQuorum", err)
	}
	if err := leader.Cluster().RemoveMember(ctx, dead); err != nil {
		t.Errorf("removal of the dead node: %v", err)
	}
	if err := leader.Cluster().RemoveMember(ctx, "nobody"); err == nil {
		t.Error("removal of an unknown node succeeds")
	} else if _, ok := errors.AsType[*state.RefusalError](err); !ok {
		t.Errorf("removal of an unknown node: %v, want a refusal", err)
	}
}
