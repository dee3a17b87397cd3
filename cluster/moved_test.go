package cluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clustertest"
)

// TestNodesThatAllMovedMeetByWhatWasWrittenDown restarts both nodes elsewhere, also
// after their certificates have ended. Only peers.json of one of them says where the
// other is now, as it does when gossip brought news that could not be committed.
func TestNodesThatAllMovedMeetByWhatWasWrittenDown(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]time.Duration{"soon": 0, "after the certificates": 60 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fleet := clustertest.Start(t, 2)
			fleet.AwaitSettled()
			nodes := fleet.Nodes()
			for _, n := range nodes {
				n.Kill()
				n.Clock.Skew(later)
			}
			b := nodes[1]
			b.Start()
			b.AwaitReady()
			writeDown(t, nodes[0], b.Cluster())
			nodes[0].Start()
			clustertest.Eventually(t, 20*time.Second, "meet", func() error {
				for _, n := range nodes {
					for _, p := range n.Cluster().Peers() {
						if !p.Alive {
							return fmt.Errorf("node %d does not see %s", n.Number, p.Name)
						}
					}
				}
				return nil
			})
			fleet.AwaitSettled()
			if err := clustertest.PutLimits(t.Context(), b, "app", 7); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWhereAnAbsentNodeWasOutlivesAStart starts a node while the other is away: what
// was written down about that one is still there at the next start.
func TestWhereAnAbsentNodeWasOutlivesAStart(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 2)
	fleet.AwaitSettled()
	a, b := fleet.Nodes()[0], fleet.Nodes()[1]
	b.Kill()
	a.Kill()
	writeDown(t, a, b.Cluster(), "127.0.0.1:1", "127.0.0.1:2")
	want := readDown(t, a)
	a.Start()
	a.AwaitReady()
	if err := clustertest.PutLimits(t.Context(), a, "app", 7); err != nil { // so that it looks at its peers
		t.Fatal(err)
	}
	a.Stop()
	if got := readDown(t, a); got != want {
		t.Errorf("peers.json has become %s, was %s", got, want)
	}
}

// writeDown puts the addresses of a peer, its own unless given, into a node's peers.json.
func writeDown(t *testing.T, n *clustertest.Node, peer *cluster.Cluster, addresses ...string) {
	t.Helper()
	if len(addresses) == 0 {
		addresses = []string{peer.PeerAddress(), peer.GossipAddress()}
	}
	text, err := json.Marshal([]map[string]string{{"id": string(peer.ID()), "peer": addresses[0], "gossip": addresses[1]}})
	if err == nil {
		err = os.WriteFile(filepath.Join(n.Dir(), "peers.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readDown is what a node has written down of its peers, in one form.
func readDown(t *testing.T, n *clustertest.Node) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.Dir(), "peers.json"))
	var peers []map[string]string
	if err == nil {
		err = json.Unmarshal(text, &peers)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(peers)
}
