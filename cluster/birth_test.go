package cluster_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clustertest"
	"github.com/covey-dev/covey/cluster/state"
)

// TestR1NodesStartedAtOnceAreOneCluster: one founds, four join at the same time.
func TestR1NodesStartedAtOnceAreOneCluster(t *testing.T) {
	t.Parallel()
	for range clustertest.Times(1, 100) {
		fleet := clustertest.New(t)
		first := fleet.Found()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		token, err := first.Cluster().CreateJoinToken(ctx, time.Hour, 0)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			n := fleet.Empty()
			wg.Go(func() {
				if err := cluster.Join(ctx, n.Config(), token); err != nil {
					t.Errorf("join: %v", err)
				} else if err := n.TryStart(); err != nil {
					t.Errorf("start: %v", err)
				}
			})
		}
		wg.Wait()
		fleet.AwaitSettled()
		ids, nodes := map[state.ClusterID]bool{}, map[state.NodeID]bool{}
		for _, n := range fleet.Up() {
			ids[n.Cluster().View().ClusterID()] = true
			nodes[n.Cluster().ID()] = true
		}
		if len(ids) != 1 || len(nodes) != 5 {
			t.Errorf("%d cluster ids and %d node ids, want 1 and 5", len(ids), len(nodes))
		}
		cancel()
		for _, n := range fleet.Up() {
			n.Kill()
		}
	}
}

// TestR1NothingButInitFoundsACluster: no way leads from an empty or a foreign
// directory to a second cluster.
func TestR1NothingButInitFoundsACluster(t *testing.T) {
	t.Parallel()
	fleet, foreign := clustertest.New(t), clustertest.New(t)
	first := fleet.Found()
	other := foreign.Found()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	token, err := first.Cluster().CreateJoinToken(ctx, time.Hour, 0)
	if err != nil {
		t.Fatal(err)
	}

	empty := fleet.Empty()
	if _, err := cluster.Open(empty.Config()); !errors.Is(err, cluster.ErrNotFounded) {
		t.Errorf("open of an empty directory: %v, want ErrNotFounded", err)
	}
	other.Kill()
	if err := cluster.Join(ctx, other.Config(), token); !errors.Is(err, cluster.ErrForeign) {
		t.Errorf("join of a foreign cluster's node: %v, want ErrForeign", err)
	}
	if _, err := cluster.Init(ctx, other.Config()); !errors.Is(err, cluster.ErrExists) {
		t.Errorf("second init: %v, want ErrExists", err)
	}
	first.Stop()
	if err := cluster.Join(ctx, first.Config(), token); err != nil {
		t.Errorf("join of a member is not a no-op: %v", err)
	}
}

// TestR1TokenOfAnotherClusterReachesNobody: a token whose address now belongs to
// another cluster is noticed before the secret is sent.
func TestR1TokenOfAnotherClusterReachesNobody(t *testing.T) {
	t.Parallel()
	ours, theirs := clustertest.New(t), clustertest.New(t)
	a, b := ours.Found(), theirs.Found()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	token, err := a.Cluster().CreateJoinToken(ctx, time.Hour, 0)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(token, a.Cluster().PeerAddress(), b.Cluster().PeerAddress(), 1)
	joiner := ours.Empty()
	if err := cluster.Join(ctx, joiner.Config(), wrong); !errors.Is(err, cluster.ErrForeign) {
		t.Fatalf("join at another cluster's address: %v, want ErrForeign", err)
	}
	// With a good address beside it, the same token works.
	both := strings.Replace(token, "@", "@"+b.Cluster().PeerAddress()+",", 1)
	if err := cluster.Join(ctx, joiner.Config(), both); err != nil {
		t.Fatalf("join with one good address: %v", err)
	}
	if got := b.Cluster().View().MemberCount(); got != 1 {
		t.Errorf("other cluster has %d members, want 1", got)
	}
}

func TestJoinTokensAreBounded(t *testing.T) {
	t.Parallel()
	fleet := clustertest.New(t)
	first := fleet.Found()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	once, err := first.Cluster().CreateJoinToken(ctx, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	short, err := first.Cluster().CreateJoinToken(ctx, time.Minute, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Join(ctx, fleet.Empty().Config(), once); err != nil {
		t.Fatalf("first use: %v", err)
	}
	forged := strings.Replace(short, ".", ".x", 1)
	first.Clock.Skew(2 * time.Minute)
	for name, token := range map[string]string{"used up": once, "expired": short, "forged": forged, "malformed": "K10"} {
		n := fleet.Empty()
		if err := cluster.Join(ctx, n.Config(), token); !errors.Is(err, cluster.ErrBadCredential) {
			t.Errorf("%s token: %v, want ErrBadCredential", name, err)
		}
		if _, err := cluster.Open(n.Config()); !errors.Is(err, cluster.ErrNotFounded) {
			t.Errorf("%s token left a node behind: %v", name, err)
		}
	}
	if got := first.Cluster().View().MemberCount(); got != 2 {
		t.Errorf("%d members, want 2", got)
	}
}

func TestDataDirectoryHasOneOwner(t *testing.T) {
	t.Parallel()
	fleet := clustertest.New(t)
	n := fleet.Found()
	if _, err := cluster.Open(n.Config()); !errors.Is(err, cluster.ErrLocked) {
		t.Errorf("second open: %v, want ErrLocked", err)
	}
	if _, err := cluster.Recover(t.Context(), n.Config(), true); !errors.Is(err, cluster.ErrLocked) {
		t.Errorf("recover beside a daemon: %v, want ErrLocked", err)
	}
	boot := n.Cluster().Boot()
	n.Kill()
	n.Start()
	if got := n.Cluster().Boot(); got != boot+1 {
		t.Errorf("boot number %d after %d", got, boot)
	}
}

// TestR11WipedNodeIsANewNode: the same machine with an empty disk gets a new id,
// and the old one stays burned once it is removed, even with its old disk.
func TestR11WipedNodeIsANewNode(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	victim := fleet.Nodes()[2]
	old := victim.Cluster().ID()
	victim.Kill()
	saved := victim.Dir() + ".saved"
	if err := os.Rename(victim.Dir(), saved); err != nil {
		t.Fatal(err)
	}

	up := fleet.Nodes()[0]
	token, err := up.Cluster().CreateJoinToken(ctx, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Join(ctx, victim.Config(), token); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	victim.AwaitReady()
	if victim.Cluster().ID() == old {
		t.Fatal("wiped node has its old id")
	}
	if err := up.Cluster().RemoveMember(ctx, old); err != nil {
		t.Fatal(err)
	}
	fleet.AwaitSettled()
	victim.Kill()

	// The old disk comes back, say from a backup of the machine.
	if err := os.RemoveAll(victim.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(saved, victim.Dir()); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	if err := victim.Err(); !errors.Is(err, cluster.ErrRemoved) {
		t.Errorf("removed node ran on: %v, want ErrRemoved", err)
	}
	if up.Cluster().View().Member(old) != nil {
		t.Error("removed node is a member again")
	}
}
