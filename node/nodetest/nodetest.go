// Package nodetest starts whole nodes in one test process: real state, gossip,
// Raft, peer links, sandboxes and HTTP on loopback, with timings for one machine.
// What it cannot do is what needs a process of its own, such as kill -9; that is
// package e2e's.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/node"
	"github.com/covey-dev/covey/node/client"
)

// patience bounds waits for a cluster to form. It takes two seconds, but fast
// timings hold off promotions while a machine that is busy with other tests makes
// healthy nodes look unwell.
const patience = 90 * time.Second

// Cluster is a number of nodes in this process.
type Cluster struct {
	t testing.TB
	// Nodes are those that were started, in order; one that was stopped stays.
	Nodes []*Node
	// Token is the admin token.
	Token string
}

// Node is one node, which can be stopped and started again.
type Node struct {
	*node.Node
	// Config is what it is started with; change it between Stop and Start.
	Config node.Config
	// Clock is the node's wall clock.
	Clock *clock.Skewed

	t    testing.TB
	mu   sync.Mutex
	stop context.CancelFunc // guarded by mu; nil while stopped
	done chan error         // guarded by mu; has the one result of Run
}

// Start starts n nodes as one cluster and waits until each serves and, for three
// and more, three vote. The test stops them at its end.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for range n {
		c.Add()
	}
	if n >= 3 {
		c.AwaitVoters(3)
	}
	return c
}

// config is a node's configuration on loopback.
func config(t testing.TB, name string, skew *clock.Skewed) node.Config {
	cfg := node.DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), name)
	cfg.Name, cfg.Advertise = name, "127.0.0.1"
	cfg.API, cfg.Peer, cfg.Gossip = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Fast, cfg.Clock = true, skew
	cfg.Memory = 2 << 30
	cfg.DrainTimeout = 5 * time.Second
	cfg.Logger = Logger(t).With().Str("node_name", name).Logger().Level(zerolog.InfoLevel)
	cfg.Exit = func(code int) { t.Errorf("%s wants to end the process with %d", name, code) }
	return cfg
}

// Add starts one more node.
func (c *Cluster) Add() *Node {
	c.t.Helper()
	skew := &clock.Skewed{}
	n := &Node{Config: config(c.t, fmt.Sprintf("node-%d", len(c.Nodes)+1), skew), Clock: skew, t: c.t}
	if len(c.Nodes) == 0 {
		n.Config.Init = true
	} else {
		n.Config.Join = c.JoinToken()
	}
	n.Start()
	if len(c.Nodes) == 0 {
		c.Token = n.AdminToken
	}
	c.Nodes = append(c.Nodes, n)
	c.t.Cleanup(n.Stop)
	c.t.Cleanup(func() { // must not outlive the test's log
		if c.t.Failed() {
			c.t.Logf("%s is at %s", n.Config.Name, n.APIAddr())
		}
	})
	return n
}

// JoinToken makes a join token on the first running node.
func (c *Cluster) JoinToken() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	token, err := c.running().Cluster().CreateJoinToken(ctx, time.Hour, 0)
	if err != nil {
		c.t.Fatalf("make join token: %v", err)
	}
	return token
}

func (c *Cluster) running() *Node {
	c.t.Helper()
	for _, n := range c.Nodes {
		if n.Running() {
			return n
		}
	}
	c.t.Fatal("no node is running")
	return nil
}

// Leader waits until a running node leads and returns it.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var leader *Node
	Await(c.t, patience, func() error {
		for _, n := range c.Nodes {
			if n.Running() && n.Cluster().Leader() == n.Cluster().ID() {
				leader = n
				return nil
			}
		}
		return errors.New("no running node leads")
	})
	return leader
}

// AwaitVoters waits until so many members vote.
func (c *Cluster) AwaitVoters(want int) {
	c.t.Helper()
	Await(c.t, patience, func() error {
		voters := 0
		for _, m := range c.running().Cluster().View().Members() {
			if m.Role == clusterpb.Role_ROLE_VOTER {
				voters++
			}
		}
		if voters != want {
			return fmt.Errorf("%d voters, want %d", voters, want)
		}
		return nil
	})
}

// Client returns an admin's client for the given nodes, all if none is given.
func (c *Cluster) Client(nodes ...*Node) *client.Client {
	c.t.Helper()
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	cfg := client.DefaultConfig()
	cfg.Token = c.Token
	for _, n := range nodes {
		cfg.Addresses = append(cfg.Addresses, n.APIAddr().String())
	}
	cl, err := client.New(cfg)
	if err != nil {
		c.t.Fatalf("make client: %v", err)
	}
	return cl
}

// Start starts the node, on the ports that it had before.
func (n *Node) Start() {
	n.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	started, err := node.Start(ctx, n.Config)
	if err != nil {
		n.t.Fatalf("start %s: %v", n.Config.Name, err)
	}
	n.Node = started
	run, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- started.Run(run) }() // Stop waits for it
	n.mu.Lock()
	n.stop, n.done = cancel, done
	n.mu.Unlock()
	n.Config.Init, n.Config.Join = false, ""
	n.Config.API = started.APIAddr().String()
	n.Config.Peer = started.Cluster().PeerAddress()
	select {
	case <-started.Cluster().Ready():
	case <-time.After(patience):
		n.t.Fatalf("%s has no state after %v", n.Config.Name, patience)
	}
	Await(n.t, 20*time.Second, func() error {
		conn, err := net.Dial("tcp", n.Config.API)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// Running tells whether the node is started and not stopped.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stop != nil
}

// Stop ends the node in order. It may be called more than once.
func (n *Node) Stop() {
	n.t.Helper()
	n.mu.Lock()
	stop, done := n.stop, n.done
	n.stop = nil
	n.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	select {
	case err := <-done:
		if err != nil {
			n.t.Errorf("%s ended with: %v", n.Config.Name, err)
		}
	case <-time.After(30 * time.Second):
		n.t.Errorf("%s did not stop within 30 s", n.Config.Name)
	}
}

// Await calls check until it returns nil, and fails the test with its last error
// after the given time.
func Await(t testing.TB, most time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(most)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", most, err)
		}
		<-tick.C
	}
}
