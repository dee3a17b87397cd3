package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/clustertest"
)

// holdsKeys reports whether the voters' keys lie in a node's directory.
func holdsKeys(n *clustertest.Node) bool {
	_, ca := os.Stat(filepath.Join(n.Dir(), "keys", "ca.key"))
	_, kek := os.Stat(filepath.Join(n.Dir(), "keys", "kek"))
	return ca == nil && kek == nil
}

// TestKeysFollowTheVote: voters have the keys, nobody else has, and a voter that
// gives its vote away loses them.
func TestKeysFollowTheVote(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	check := func() error {
		for _, n := range fleet.Up() {
			m := n.Cluster().View().Member(n.Cluster().ID())
			if votes := m.Role == clusterpb.Role_ROLE_VOTER; votes != holdsKeys(n) {
				return fmt.Errorf("node %d: votes %v, holds keys %v", n.Number, votes, holdsKeys(n))
			}
		}
		return nil
	}
	clustertest.Eventually(t, 20*time.Second, "keys with the voters only", check)

	leader := fleet.Leader()
	var voter *clustertest.Node
	for _, n := range fleet.Voters() {
		if n != leader {
			voter = n
		}
	}
	if err := leader.Cluster().SetDraining(ctx, voter.Cluster().ID(), true); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, 30*time.Second, "move the vote away", func() error {
		if m := leader.Cluster().View().Member(voter.Cluster().ID()); m.Role == clusterpb.Role_ROLE_VOTER {
			return errors.New("draining node still votes")
		}
		return nil
	})
	fleet.AwaitSettled()
	clustertest.Eventually(t, 20*time.Second, "keys moved with the vote", check)
	if voter.Cluster().KEK() != nil {
		t.Error("demoted node still holds the key-encryption key in memory")
	}

	// Any voter signs: the founder's keys are not needed any more.
	founder := fleet.Nodes()[0]
	if err := leader.Cluster().SetDraining(ctx, voter.Cluster().ID(), false); err != nil {
		t.Fatal(err)
	}
	token, err := voter.Cluster().CreateJoinToken(ctx, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	founder.Kill()
	fleet.Leader()
	joiner := fleet.Empty()
	if err := cluster.Join(ctx, joiner.Config(), token); err != nil {
		t.Fatalf("join without the founder: %v", err)
	}
	joiner.Start()
	joiner.AwaitReady()
}

// TestCertificatesRenewThemselves: after two thirds of their life, everywhere, and
// without a restart.
func TestCertificatesRenewThemselves(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 2, clustertest.Tune(func(c *cluster.Config) { c.Timings.Renew = 50 * time.Millisecond }))
	before := map[int]time.Time{}
	for _, n := range fleet.Nodes() {
		before[n.Number] = n.Cluster().Status().CertificateExpires
	}
	for _, n := range fleet.Nodes() {
		n.Clock.Skew(21 * 24 * time.Hour)
	}
	clustertest.Eventually(t, 20*time.Second, "renew", func() error {
		for _, n := range fleet.Nodes() {
			if !n.Cluster().Status().CertificateExpires.After(before[n.Number].Add(20 * 24 * time.Hour)) {
				return fmt.Errorf("node %d has its old certificate", n.Number)
			}
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := clustertest.PutLimits(ctx, fleet.Nodes()[1], "renewed", 1); err != nil {
		t.Error(err)
	}
}

// TestClusterReturnsAfterTwoMonthsOff: all certificates have ended. Voters renew
// by themselves, the others from them.
func TestClusterReturnsAfterTwoMonthsOff(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 2, clustertest.FixedPorts(),
		clustertest.Tune(func(c *cluster.Config) { c.Timings.Renew = 100 * time.Millisecond }))
	for _, n := range fleet.Nodes() {
		n.Stop()
		n.Clock.Skew(60 * 24 * time.Hour)
	}
	for _, n := range fleet.Nodes() {
		n.Start()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := clustertest.PutLimits(ctx, fleet.Nodes()[1], "back", 1); err != nil {
		t.Fatal(err)
	}
	fleet.AwaitSameState()
}
