package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// Config is what a gossip instance needs. All fields without a default are
// required.
type Config struct {
	// ID and Boot name this node; Boot grows with every start of the daemon.
	ID   state.NodeID
	Boot uint64
	// Cluster separates clusters; Key encrypts (32 bytes, AES-256).
	Cluster state.ClusterID
	Key     []byte
	// Bind is the address to listen on, TCP and UDP; port 0 picks one.
	Bind string
	// Advertise is the address that others are told; empty takes Bind's, or one
	// of the machine's addresses if Bind is unspecified.
	Advertise string
	// Meta is what others are told about this node.
	Meta *clusterpb.GossipMeta
	// Admit refuses nodes by their id; it is asked under memberlist's lock and
	// must answer from memory.
	Admit func(state.NodeID) error
	// Known returns the gossip addresses that each member may have, to call those that
	// are not seen alive.
	Known func() map[state.NodeID][]string
	// OnPeers, if set, is called after peers changed, and OnWarm for every change
	// of another node's warm set, both from Run's goroutine.
	OnPeers func()
	OnWarm  func(node state.NodeID, function uint64, warm bool)

	Timings Timings
	Logger  zerolog.Logger

	// listen opens the transport and returns the port that it got; nil binds the
	// machine's network. Tests put many members on a network in memory.
	listen func(ctx context.Context, host string, port int, logger *log.Logger) (memberlist.NodeAwareTransport, int, error)
}

// Timings are gossip's intervals.
type Timings struct {
	// Probe is the time between two failure checks; a dead node is noticed after
	// about five. Too low: busy nodes are suspected and idle nodes cost CPU.
	Probe time.Duration
	// ProbeTimeout is how long a probe waits for its answer.
	ProbeTimeout time.Duration
	// Gossip is the time between two rounds of broadcasts.
	Gossip time.Duration
	// PushPull is the time between two full exchanges with a random node.
	PushPull time.Duration
	// Rejoin is the longest time between two calls to members not seen alive.
	Rejoin time.Duration
	// TCP bounds each TCP exchange.
	TCP time.Duration
}

// DefaultTimings are memberlist's for a local network.
func DefaultTimings() Timings {
	return Timings{
		Probe:        time.Second,
		ProbeTimeout: 500 * time.Millisecond,
		Gossip:       200 * time.Millisecond,
		PushPull:     30 * time.Second,
		Rejoin:       15 * time.Second,
		TCP:          5 * time.Second,
	}
}

// Validate reports every problem by field.
func (c Config) Validate() error {
	var errs []error
	missing := func(name string, absent bool) {
		if absent {
			errs = append(errs, fmt.Errorf("gossip config: %s is required", name))
		}
	}
	missing("ID", c.ID == "")
	missing("Boot", c.Boot == 0)
	missing("Cluster", c.Cluster == "")
	missing("Meta", c.Meta == nil)
	missing("Admit", c.Admit == nil)
	missing("Known", c.Known == nil)
	if len(c.Key) != 32 {
		errs = append(errs, fmt.Errorf("gossip config: Key has %d bytes, want 32", len(c.Key)))
	}
	if _, _, err := net.SplitHostPort(c.Bind); err != nil {
		errs = append(errs, fmt.Errorf("gossip config: Bind: %w", err))
	}
	t := c.Timings
	if min(t.Probe, t.ProbeTimeout, t.Gossip, t.PushPull, t.Rejoin, t.TCP) <= 0 {
		errs = append(errs, errors.New("gossip config: Timings must all be positive"))
	}
	return errors.Join(errs...)
}
