package clustertest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/internal/loopback"
)

// Node is one machine of a fleet: a data directory, and a daemon while it runs.
type Node struct {
	// Number counts the fleet's nodes from 0.
	Number int
	// Clock is the machine's; skew it to make it wrong.
	Clock *clock.Skewed

	fleet *Fleet
	dir   string
	link  *link

	mu      sync.Mutex
	cluster *cluster.Cluster
	stop    context.CancelFunc
	done    chan struct{}
	err     error     // Of Run; written before done is closed.
	exited  error     // What Exit was called with.
	ports   [2]string // Peer and gossip addresses of the last start.
}

// Dir returns the data directory.
func (n *Node) Dir() string { return n.dir }

// Config returns the configuration of the next start.
func (n *Node) Config() cluster.Config {
	cfg := cluster.DefaultConfig()
	cfg.DataDir = n.dir
	cfg.Name = "node-" + string(rune('a'+n.Number%26))
	cfg.Peer.Bind, cfg.Gossip.Bind = "127.0.0.1:0", "127.0.0.1:0"
	n.mu.Lock()
	if n.fleet.fixed {
		if n.ports[0] == "" {
			n.ports = [2]string{loopback.Address(n.fleet.t), loopback.Address(n.fleet.t)}
		}
		cfg.Peer.Bind, cfg.Gossip.Bind = n.ports[0], n.ports[1]
	}
	n.mu.Unlock()
	cfg.APIAdvertise = "127.0.0.1:1"
	cfg.Info = cluster.NodeInfo{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: 2, MemoryBytes: 1 << 30, Runtimes: []string{"go"},
	}
	cfg.Timings = cluster.FastTimings()
	// Tests share one disk, and the machine with each other.
	cfg.Disk.Reserve, cfg.Disk.Low, cfg.Disk.StallMax = 0, 0, time.Minute
	cfg.Clock = n.Clock
	cfg.Logger = n.fleet.log.With().Int("number", n.Number).Logger()
	cfg.Dial = n.link.dial
	cfg.Exit = func(reason error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.exited = reason
	}
	n.fleet.tune(&cfg)
	return cfg
}

// Start opens and runs the node, on new ports.
func (n *Node) Start() {
	n.fleet.t.Helper()
	if err := n.TryStart(); err != nil {
		n.fleet.t.Fatalf("start node %d: %v", n.Number, err)
	}
}

// TryStart is Start for nodes that may not come up.
func (n *Node) TryStart() error {
	c, err := cluster.Open(n.Config())
	if err != nil {
		return err
	}
	if n.fleet.onOpen != nil {
		n.fleet.onOpen(c)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.cluster, n.stop, n.done, n.err = c, stop, done, nil
	n.ports = [2]string{c.PeerAddress(), c.GossipAddress()}
	n.link.listen(c.PeerAddress())
	// Ends with stop or with the cluster's Close, which Stop and Kill wait for.
	go func() {
		defer close(done)
		n.err = c.Run(ctx)
	}()
	return nil
}

// AwaitReady waits until the node has the state of its cluster.
func (n *Node) AwaitReady() {
	n.fleet.t.Helper()
	c := n.Cluster()
	select {
	case <-c.Ready():
	case <-n.Done():
		n.fleet.t.Fatalf("node %d ended: %v", n.Number, n.err)
	case <-time.After(time.Minute):
		n.fleet.t.Fatalf("node %d is not ready: %+v", n.Number, c.Status())
	}
}

// Cluster returns the running cluster part; nil before the first start.
func (n *Node) Cluster() *cluster.Cluster {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cluster
}

// Running reports whether the node was started and not ended since.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stop != nil
}

// Done is closed when Run has returned.
func (n *Node) Done() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

// Err waits for Run to return, and returns its error.
func (n *Node) Err() error {
	select {
	case <-n.Done():
		return n.err
	case <-time.After(20 * time.Second):
		return errors.New("node still runs")
	}
}

// Stop ends the node in order: it hands over and says goodbye.
func (n *Node) Stop() { n.end(true) }

// Kill ends the node like kill -9, as far as one process allows: nobody is told.
func (n *Node) Kill() { n.end(false) }

func (n *Node) end(orderly bool) {
	n.mu.Lock()
	c, stop, done := n.cluster, n.stop, n.done
	n.stop = nil
	n.mu.Unlock()
	if stop == nil {
		return
	}
	if orderly {
		stop()
		<-done
	}
	_ = c.Close()
	stop()
	<-done
}
