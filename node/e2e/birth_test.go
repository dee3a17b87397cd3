package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestCommandLineDeploysAndInvokes is the five minutes of the README.
func TestCommandLineDeploysAndInvokes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	dir := c.nodes[0].dir
	c.covey("deploy", "noted", functionBin, "--data-dir", dir, "--idempotent")
	out := c.covey("invoke", "noted", "-d", `{"op":"note"}`, "--data-dir", dir)
	if !strings.Contains(out, `"function":"noted"`) {
		t.Errorf("invoke printed %q", out)
	}
	if out := c.covey("nodes", "--data-dir", dir); !strings.Contains(out, "node-1") {
		t.Errorf("nodes printed %q", out)
	}
	if out := c.covey("logs", "noted", "--data-dir", dir); !strings.Contains(out, ledger.LinePrefix) {
		t.Errorf("logs printed %q", out)
	}
	if _, err := covey("invoke", "unknown", "-d", "{}", "--data-dir", dir); err == nil {
		t.Error("an unknown function was invoked")
	}
	c.nodes[0].stop()
}

// TestR11WipedDiskGetsANewID is row R11: a machine that lost its disk is another
// node, and its old id is not taken over.
func TestR11WipedDiskGetsANewID(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.deploy("noted", wire.FunctionSpec{})
	second := c.nodes[1]
	old := c.id(second)
	second.kill()
	if err := os.RemoveAll(second.dir); err != nil {
		t.Fatal(err)
	}
	second.id = ""
	second.start("--join", c.joinToken())
	if now := c.id(second); now == old {
		t.Fatalf("the wiped node took its old id %s", old)
	}
	mustCall(t, c.client(second), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	// The old id can be removed, and is burned then.
	c.covey("node", "remove", old, "--data-dir", c.nodes[0].dir)
	await(t, 15*time.Second, "old id is gone", func() error {
		nodes, err := c.list(second)
		for _, n := range nodes {
			if n.ID == old {
				return fmt.Errorf("%s is still listed", old)
			}
		}
		return err
	})
}

// TestR1NodeOfAnotherClusterIsRefused is row R1: neither by a token nor by its
// peers does a node of one cluster become one of another.
func TestR1NodeOfAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	a, b := newCluster(t, 1), newCluster(t, 1)
	foreign, before := b.nodes[0], b.id(b.nodes[0])
	foreign.stop()
	p := foreign.launch("--join", a.joinToken())
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Fatal("a node of another cluster goes on after it was told to join")
	}
	foreign.mu.Lock()
	foreign.proc = nil
	foreign.mu.Unlock()
	if text := string(tail(foreign.log, 2<<10)); !strings.Contains(text, "cluster") {
		t.Errorf("it does not say why it ended: %s", text)
	}
	foreign.start() // unharmed, in its own cluster
	s, err := b.status(foreign)
	if err != nil || s.Node != before || s.ClusterID == mustStatus(t, a).ClusterID {
		t.Errorf("after the refusal: %+v, %v", s, err)
	}
	if nodes, err := a.list(a.nodes[0]); err != nil || len(nodes) != 1 {
		t.Errorf("the other cluster has %d nodes, %v", len(nodes), err)
	}
	// A second founding in the same directory is refused too.
	foreign.stop()
	p = foreign.launch("--init")
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Error("a node founded a second cluster in its data directory")
	}
	foreign.mu.Lock()
	foreign.proc = nil
	foreign.mu.Unlock()
}

func mustStatus(t *testing.T, c *cluster) *wire.Status {
	t.Helper()
	s, err := c.status(c.up()[0])
	if err != nil {
		t.Fatal(err)
	}
	return s
}
