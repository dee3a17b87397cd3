package node_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestVoterThatWasReplacedReturnsWithItsID is row R12: a voter that is off for long
// is replaced by a standby, and is demoted, not removed. It comes back under its
// id, follows, and is used. Its absence is five minutes with COVEY_SOAK=1; the
// tests' timings replace a voter after three seconds.
func TestVoterThatWasReplacedReturnsWithItsID(t *testing.T) {
	t.Parallel()
	absence := 4 * time.Second
	if os.Getenv("COVEY_SOAK") != "" {
		absence = 5 * time.Minute
	}
	c := nodetest.Start(t, 4)
	deploy(t, c, "f", "conformance", wire.FunctionSpec{})
	var off *nodetest.Node
	for _, n := range c.Nodes {
		if member := c.Nodes[0].Cluster().View().Member(n.Cluster().ID()); n != c.Leader() && member.Role == clusterpb.Role_ROLE_VOTER {
			off = n
		}
	}
	id := off.Cluster().ID()
	var rest []*nodetest.Node
	for _, n := range c.Nodes {
		if n != off {
			rest = append(rest, n)
		}
	}
	off.Stop()
	gone := time.Now()
	nodetest.Await(t, 30*time.Second+absence, func() error {
		view := rest[0].Cluster().View()
		voters := 0
		for _, m := range view.Members() {
			if m.Role == clusterpb.Role_ROLE_VOTER {
				voters++
			}
		}
		if m := view.Member(id); m == nil || m.Role == clusterpb.Role_ROLE_VOTER || voters != 3 {
			return fmt.Errorf("%d voters, the absent one is %+v", voters, m)
		}
		if time.Since(gone) < absence {
			return fmt.Errorf("absent for %v of %v", time.Since(gone), absence)
		}
		return nil
	})
	deploy(t, c, "later", "conformance", wire.FunctionSpec{}) // what it has to catch up with
	off.Start()
	if now := off.Cluster().ID(); now != id {
		t.Fatalf("came back as %s, was %s", now, id)
	}
	cl := c.Client(off)
	defer cl.Close()
	nodetest.Await(t, 20*time.Second, func() error {
		_, err := cl.Invoke(t.Context(), order("later", program.Input{Op: program.OpEcho}))
		return err
	})
	nodetest.Await(t, 20*time.Second, func() error {
		for _, p := range rest[0].Cluster().Peers() {
			if p.ID == id && p.Alive {
				return nil
			}
		}
		return fmt.Errorf("%s is not seen alive", id)
	})
	c.AwaitVoters(3)
}

// TestProvisionedInstancesMoveWithTheNodes keeps instances warm, spread over the
// nodes, moves them off a node that is drained, and onto it once another drains.
func TestProvisionedInstancesMoveWithTheNodes(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	deploy(t, c, "warm", "echo", wire.FunctionSpec{Min: 3})
	cl := c.Client()
	defer cl.Close()
	drain := func(n *nodetest.Node, on bool) {
		t.Helper()
		if err := cl.Drain(t.Context(), n.Config.Name, on); err != nil {
			t.Fatal(err)
		}
	}
	first, last := c.Nodes[0], c.Nodes[2]
	awaitSpread(t, cl, map[string]bool{"node-1": true, "node-2": true, "node-3": true})
	drain(last, true)
	awaitSpread(t, cl, map[string]bool{"node-1": true, "node-2": true})
	// A drained node still is an entry.
	entry := c.Client(last)
	defer entry.Close()
	reply, err := entry.Invoke(t.Context(), order("warm", program.Input{Op: program.OpEcho}))
	if err != nil {
		t.Errorf("through the drained node: %v", err)
	} else if reply.Node == string(last.Cluster().ID()) || reply.Cold {
		t.Errorf("ran on %s, cold %v", reply.Node, reply.Cold)
	}
	drain(last, false)
	drain(first, true)
	awaitSpread(t, cl, map[string]bool{"node-2": true, "node-3": true})
}

// awaitSpread waits until three instances run, at least one on each of the named
// nodes and none on others.
func awaitSpread(t *testing.T, cl *client.Client, want map[string]bool) {
	t.Helper()
	nodetest.Await(t, 60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		nodes, err := cl.Nodes(ctx)
		if err != nil {
			return err
		}
		got, sum := map[string]int{}, 0
		for _, n := range nodes {
			got[n.Name] = n.Instances
			sum += n.Instances
			if (n.Instances > 0) != want[n.Name] {
				err = fmt.Errorf("instances %v, want some on each of %v", got, want)
			}
		}
		if err == nil && sum != 3 {
			err = fmt.Errorf("instances %v, want 3 in all", got)
		}
		return err
	})
}
