package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestR14NodeRestartedOnAnotherAddressIsFound is row R14: a node that was killed
// and comes back with other ports is the same node, a voter, and used again.
func TestR14NodeRestartedOnAnotherAddressIsFound(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.deploy("noted", wire.FunctionSpec{Idempotent: true})
	c.awaitWhole(3, formTime)
	for _, n := range c.nodes {
		c.id(n)
	}
	for _, n := range c.nodes { // each of them, the leader included
		old := n.api
		n.kill()
		n.move()
		n.start()
		if id := freshID(t, c, n); id != c.id(n) {
			t.Errorf("%s came back as %s", n.name, id)
		}
		c.awaitWhole(3, 30*time.Second)
		await(t, 15*time.Second, "others know the new address", func() error {
			for _, other := range c.others(n) {
				nodes, err := c.list(other)
				if err != nil {
					return err
				}
				for _, s := range nodes {
					if s.ID == c.id(n) && (s.API != n.api || s.Peer != n.peer || s.Gossip != n.gossip || s.Error != "") {
						return fmt.Errorf("%s has %s at api %s peer %s gossip %s: %q", other.name, n.name, s.API, s.Peer, s.Gossip, s.Error)
					}
				}
			}
			return nil
		})
		// The peer link finds it too: a call that enters elsewhere can run there.
		c.runsThere(t, n)
		t.Logf("%s moved from %s to %s", n.name, old, n.api)
	}
}

// runsThere drains every other node, so that a call which enters there has to
// cross over to n, and undoes it.
func (c *cluster) runsThere(t *testing.T, n *node) {
	t.Helper()
	rest := c.others(n)
	for _, other := range rest {
		c.covey("node", "drain", c.id(other), "--addr", n.api, "--token-file", c.nodes[0].dir+"/admin.token")
	}
	for _, other := range rest {
		await(t, 15*time.Second, "a call through "+other.name+" runs on "+n.name, func() error {
			reply, err := call(t.Context(), c.once(other), "noted", ledger.Order{Op: ledger.OpNote}, nil)
			if err == nil && reply.Node != c.id(n) {
				err = fmt.Errorf("ran on %s", reply.Node)
			}
			return err
		})
	}
	for _, other := range rest {
		c.covey("node", "drain", c.id(other), "--off", "--addr", n.api, "--token-file", c.nodes[0].dir+"/admin.token")
	}
}

// TestR2RebootOfAllNodesKeepsTheCluster is row R2, with row R20: all nodes are
// killed at once and started at once; they are one cluster again within 30 s, and
// instances that are to be kept warm are started without being asked for.
func TestR2RebootOfAllNodesKeepsTheCluster(t *testing.T) {
	t.Parallel()
	rounds := 2
	if soak() {
		rounds = 50
	}
	c := newCluster(t, 3)
	c.deploy("noted", wire.FunctionSpec{})
	c.deploy("warm", wire.FunctionSpec{Min: 3})
	c.awaitWhole(3, formTime)
	before := mustStatus(t, c).ClusterID
	for round := range rounds {
		for _, n := range c.nodes {
			n.kill()
		}
		if round%2 == 1 { // a rack that comes up in another order and on other addresses
			c.nodes[1].move()
		}
		begun := time.Now()
		started := make([]*process, len(c.nodes))
		for i, n := range c.nodes {
			started[i] = n.launch()
		}
		for i, n := range c.nodes {
			n.awaitReady(started[i])
		}
		for _, n := range c.nodes { // known functions run before there is a quorum
			mustCall(t, c.client(n), "noted", ledger.Order{Op: ledger.OpNote}, nil)
		}
		c.awaitWhole(3, 30*time.Second)
		t.Logf("whole after %v", time.Since(begun).Round(time.Millisecond))
		if after := mustStatus(t, c).ClusterID; after != before {
			t.Fatalf("cluster %s became %s", before, after)
		}
		await(t, 30*time.Second, "three warm instances", func() error {
			nodes, err := c.list(c.nodes[0])
			warm := 0
			for _, n := range nodes {
				for _, f := range n.Functions {
					if f.Function == "warm" {
						warm += f.Instances
					}
				}
			}
			if err == nil && warm != 3 {
				err = fmt.Errorf("%d instances of a function with min 3", warm)
			}
			return err
		})
	}
	c.deploy("noted", wire.FunctionSpec{})
}
