package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/gossip"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/clock"
)

// Config says how a node takes part in a cluster. Start from DefaultConfig.
type Config struct {
	// DataDir holds the node's identity, keys, Raft log and copy of the state. One
	// process at a time; losing it makes the machine a new node. Required.
	DataDir string
	// Name is what people call the node; it identifies nothing.
	Name string
	// Peer is the port for everything authenticated between nodes, Gossip the one
	// for hints.
	Peer, Gossip Endpoint
	// APIAdvertise is where clients reach this node's HTTP API, host:port. The
	// cluster only passes it on.
	APIAdvertise string
	// Info is what this machine can do.
	Info NodeInfo
	// AdminToken is the secret of the first API token, used by Init and Restore
	// only. Empty makes a random one.
	AdminToken string

	// OnWarm, if set, is called for every change of another node's warm set, and
	// OnPeers with all peers after any of them changed. Both are called from one
	// goroutine each and must return quickly.
	OnWarm  func(node state.NodeID, function uint64, warm bool)
	OnPeers func([]Peer)
	// Exit ends the process when the disk is beyond hope, see package group. It is
	// called at most once. Required by Open.
	Exit func(reason error)

	// Dial opens TCP connections to other nodes' peer ports; nil uses the system's
	// network. Tests cut links with it.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	Timings Timings
	Limits  group.Limits
	Disk    group.DiskConfig
	Clock   clock.Clock
	Logger  zerolog.Logger
	// Registerer gets the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
}

// Endpoint is a port as it is bound and as others are told.
type Endpoint struct {
	// Bind is the address to listen on, host:port; port 0 picks one.
	Bind string
	// Advertise is the address that others use. Its port may be 0 or absent for the
	// bound one; empty means the bound host, or one of the machine's private
	// addresses if all are bound.
	Advertise string
}

// NodeInfo is what a machine can do, as placement needs to know.
type NodeInfo struct {
	OS, Arch     string
	CPUs         int
	MemoryBytes  uint64
	Runtimes     []string
	SandboxLevel int
	// Labels are the operator's. They are told once the cluster knows what labels are.
	Labels map[string]string
}

// Timings are the intervals of the cluster's parts.
type Timings struct {
	Raft   group.Timings
	Gossip gossip.Timings
	// Retry is the first wait between two attempts to reach a leader or a peer; it
	// doubles up to RetryMax.
	Retry, RetryMax time.Duration
	// RPC bounds one request between nodes that does not wait for anything.
	RPC time.Duration
	// Propose bounds Propose and Consistent if the caller's context has no
	// deadline.
	Propose time.Duration
	// Idle is how often a feed without commands shows that it is alive; an observer
	// looks for another source after three of them.
	Idle time.Duration
	// Reconcile is how often the leader compares roles, keys and feature levels
	// with what they should be.
	Reconcile time.Duration
	// Clock is how often clocks are compared.
	Clock time.Duration
	// Renew is how often the age of the certificate is looked at.
	Renew time.Duration
	// Goodbye bounds each step of an orderly end.
	Goodbye time.Duration
}

// DefaultTimings are for real networks.
func DefaultTimings() Timings {
	return Timings{
		Raft:      group.DefaultTimings(),
		Gossip:    gossip.DefaultTimings(),
		Retry:     100 * time.Millisecond,
		RetryMax:  3 * time.Second,
		RPC:       5 * time.Second,
		Propose:   8 * time.Second,
		Idle:      5 * time.Second,
		Reconcile: 5 * time.Second,
		Clock:     30 * time.Second,
		Renew:     time.Hour,
		Goodbye:   2 * time.Second,
	}
}

// FastTimings are for tests and for nodes that share one machine: with them a
// cluster of three forms within a second or two.
func FastTimings() Timings {
	t := DefaultTimings()
	t.Raft.Heartbeat, t.Raft.Election, t.Raft.Lease = 300*time.Millisecond, 300*time.Millisecond, 240*time.Millisecond
	t.Raft.Dial = time.Second
	t.Raft.Health, t.Raft.Reconcile = 200*time.Millisecond, 200*time.Millisecond
	t.Raft.Stable, t.Raft.Replace = 300*time.Millisecond, 3*time.Second
	t.Gossip.Probe, t.Gossip.ProbeTimeout = 200*time.Millisecond, 150*time.Millisecond
	t.Gossip.Gossip, t.Gossip.PushPull = 50*time.Millisecond, 2*time.Second
	t.Gossip.Rejoin, t.Gossip.TCP = time.Second, time.Second
	t.Retry, t.RetryMax = 20*time.Millisecond, 500*time.Millisecond
	t.RPC = 2 * time.Second
	t.Idle, t.Reconcile = 300*time.Millisecond, 100*time.Millisecond
	t.Clock = time.Second
	t.Goodbye = 500 * time.Millisecond
	return t
}

// DefaultConfig returns a configuration that lacks only the required fields.
func DefaultConfig() Config {
	return Config{
		Peer:    Endpoint{Bind: ":7071"},
		Gossip:  Endpoint{Bind: ":7072"},
		Timings: DefaultTimings(),
		Limits:  group.DefaultLimits(),
		Disk:    group.DefaultDisk(),
		Clock:   clock.System{},
		Logger:  zerolog.Nop(),
	}
}

// Validate reports every problem by field.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("DataDir is empty")
	}
	if c.Clock == nil {
		bad("Clock is nil")
	}
	for _, e := range []struct {
		name string
		Endpoint
	}{{"Peer", c.Peer}, {"Gossip", c.Gossip}} {
		if _, _, err := net.SplitHostPort(e.Bind); err != nil {
			bad("%s.Bind: %w", e.name, err)
		}
	}
	t := c.Timings
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"Retry", t.Retry},
		{"RetryMax", t.RetryMax},
		{"RPC", t.RPC},
		{"Propose", t.Propose},
		{"Idle", t.Idle},
		{"Reconcile", t.Reconcile},
		{"Clock", t.Clock},
		{"Renew", t.Renew},
		{"Goodbye", t.Goodbye},
	} {
		if d.d <= 0 {
			bad("Timings.%s is %v, not above 0", d.name, d.d)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cluster config: %w", err)
	}
	return nil
}
