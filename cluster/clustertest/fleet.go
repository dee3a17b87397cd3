// Package clustertest runs several nodes of package cluster in one process, on
// loopback and with fast timings, and breaks them: nodes are killed, restarted on
// other addresses, cut off from each other, and given wrong clocks.
//
// Nodes are real: real ports, TLS, Raft and files. Only the timings are shorter.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/clock"
)

// Fleet is a cluster under test. Its nodes are stopped when the test ends.
type Fleet struct {
	t    testing.TB
	dir  string
	tune func(*cluster.Config)
	net  *network
	log  zerolog.Logger
	// onOpen is called with each cluster between Open and Run.
	onOpen func(*cluster.Cluster)
	// fixed keeps each node's ports over restarts.
	fixed bool

	mu    sync.Mutex
	nodes []*Node
}

// Option changes a fleet before its nodes start.
type Option func(*Fleet)

// Tune lets f change the configuration of each node before each start.
func Tune(f func(*cluster.Config)) Option { return func(fl *Fleet) { fl.tune = f } }

// FixedPorts makes every node keep the ports of its first start. Without it each
// start binds new ones.
func FixedPorts() Option { return func(fl *Fleet) { fl.fixed = true } }

// OnOpen lets f register services and leader work with each node that is started
// from then on, between Open and Run.
func (f *Fleet) OnOpen(do func(*cluster.Cluster)) { f.onOpen = do }

// New returns a fleet without nodes.
func New(t testing.TB, options ...Option) *Fleet {
	t.Helper()
	f := &Fleet{t: t, dir: t.TempDir(), tune: func(*cluster.Config) {}, net: newNetwork(), log: zerolog.Nop()}
	if os.Getenv("COVEY_TEST_LOG") != "" {
		// Not the test's own log: memberlist writes a last word after its end.
		f.log = zerolog.New(os.Stderr).With().Timestamp().Logger()
	}
	for _, o := range options {
		o(f)
	}
	t.Cleanup(f.close)
	return f
}

// Start returns a fleet whose n nodes are up and whose roles have settled.
func Start(t testing.TB, n int, options ...Option) *Fleet {
	t.Helper()
	f := New(t, options...)
	f.Found()
	for range n - 1 {
		f.Join()
	}
	f.AwaitSettled()
	return f
}

// close ends all nodes at once, abruptly: goodbyes are tested elsewhere.
func (f *Fleet) close() {
	for _, n := range f.Nodes() {
		n.Kill()
	}
}

// Found makes and starts the first node.
func (f *Fleet) Found() *Node {
	f.t.Helper()
	n := f.add()
	if _, err := cluster.Init(f.t.Context(), n.Config()); err != nil {
		f.t.Fatalf("init node %d: %v", n.Number, err)
	}
	n.Start()
	n.AwaitReady()
	return n
}

// Join makes and starts a further node.
func (f *Fleet) Join() *Node {
	f.t.Helper()
	var token string
	Eventually(f.t, 20*time.Second, "create a join token", func() (err error) {
		up := f.Up()
		if len(up) == 0 {
			return errors.New("no node is up")
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		token, err = up[0].Cluster().CreateJoinToken(ctx, time.Hour, 1)
		return err
	})
	n := f.add()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	if err := cluster.Join(ctx, n.Config(), token); err != nil {
		f.t.Fatalf("join node %d: %v", n.Number, err)
	}
	n.Start()
	n.AwaitReady()
	return n
}

// Empty makes a node without a data directory, for tests of Init and Join
// themselves.
func (f *Fleet) Empty() *Node { return f.add() }

func (f *Fleet) add() *Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &Node{
		Number: len(f.nodes), Clock: &clock.Skewed{}, fleet: f,
		dir:  filepath.Join(f.dir, fmt.Sprintf("node-%d", len(f.nodes))),
		link: f.net.join(),
	}
	f.nodes = append(f.nodes, n)
	return n
}

// Nodes returns all nodes in the order they were made.
func (f *Fleet) Nodes() []*Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Node(nil), f.nodes...)
}

// Up returns the nodes that run.
func (f *Fleet) Up() []*Node {
	var up []*Node
	for _, n := range f.Nodes() {
		if n.Running() {
			up = append(up, n)
		}
	}
	return up
}

// Leader waits for a leader that all running nodes agree on, and returns it.
func (f *Fleet) Leader() *Node {
	f.t.Helper()
	var leader *Node
	Eventually(f.t, time.Minute, "agree on a leader", func() error {
		leader = nil
		up := f.Up()
		for _, n := range up {
			if n.Cluster().IsLeader() {
				leader = n
			}
		}
		if leader == nil {
			return errors.New("no node leads")
		}
		for _, n := range up {
			if got := n.Cluster().Leader(); got != leader.Cluster().ID() {
				return fmt.Errorf("node %d names leader %q", n.Number, got)
			}
		}
		return nil
	})
	return leader
}

// AwaitSettled waits until every running node knows the same members and roles,
// and there are as many voters as there should be: one below three nodes, three
// below seven, then five.
func (f *Fleet) AwaitSettled() {
	f.t.Helper()
	Eventually(f.t, time.Minute, "settle roles", f.settled)
}

func (f *Fleet) settled() error {
	up := f.Up()
	members, voters := 0, 0
	for i, n := range up {
		view := n.Cluster().View()
		if i > 0 && view.MemberCount() != members {
			return fmt.Errorf("node %d knows %d members, another %d", n.Number, view.MemberCount(), members)
		}
		members, voters = view.MemberCount(), 0
		for _, m := range view.Members() {
			if m.Role == clusterpb.Role_ROLE_VOTER {
				voters++
			}
			if m.PeerAddress == "" || m.GossipAddress == "" {
				return fmt.Errorf("node %d knows no address of %s", n.Number, m.ID)
			}
		}
		if want := wantVoters(members); voters != want {
			return fmt.Errorf("node %d knows %d voters of %d members, want %d", n.Number, voters, members, want)
		}
		if n.Cluster().Leader() == "" {
			return fmt.Errorf("node %d knows no leader", n.Number)
		}
	}
	return nil
}

func wantVoters(members int) int {
	switch {
	case members < 3:
		return 1
	case members < 7:
		return 3
	default:
		return 5
	}
}

// AwaitSameState waits until all running nodes have the same state, and returns
// its hash.
func (f *Fleet) AwaitSameState() string {
	f.t.Helper()
	var hash string
	Eventually(f.t, 20*time.Second, "have the same state", func() error {
		hash = ""
		for _, n := range f.Up() {
			h := n.Cluster().View().Hash()
			if hash != "" && h != hash {
				return fmt.Errorf("node %d at index %d differs", n.Number, n.Cluster().View().Index())
			}
			hash = h
		}
		return nil
	})
	return hash
}

// Observers returns the running nodes that are neither voters nor standbys, as
// the first running node sees it.
func (f *Fleet) Observers() []*Node { return f.withRole(clusterpb.Role_ROLE_OBSERVER) }

// Voters returns the running voters.
func (f *Fleet) Voters() []*Node { return f.withRole(clusterpb.Role_ROLE_VOTER) }

func (f *Fleet) withRole(role clusterpb.Role) []*Node {
	var found []*Node
	for _, n := range f.Up() {
		if m := n.Cluster().View().Member(n.Cluster().ID()); m != nil && m.Role == role {
			found = append(found, n)
		}
	}
	return found
}

// Isolate cuts all connections of a node over the peer port, silently: what was
// sent is lost and nobody is told. Gossip goes on; it decides nothing.
func (f *Fleet) Isolate(n *Node) { f.net.isolate(n.link, true) }

// Heal ends an isolation.
func (f *Fleet) Heal(n *Node) { f.net.isolate(n.link, false) }

// CutOneWay cuts what one node dials to another; the other direction stays.
func (f *Fleet) CutOneWay(from, to *Node) { f.net.oneWay(from.link, to.link, true) }

// MendOneWay ends CutOneWay.
func (f *Fleet) MendOneWay(from, to *Node) { f.net.oneWay(from.link, to.link, false) }

// Eventually polls until check returns nil, and fails the test with its last
// error when the time is over.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Times returns the count of a soak run if COVEY_SOAK is set, else the reduced
// one.
func Times(reduced, full int) int {
	if os.Getenv("COVEY_SOAK") != "" {
		return full
	}
	return reduced
}

// PutLimits writes through a node, as a command that is easy to see again, and
// returns its error.
func PutLimits(ctx context.Context, n *Node, app string, limit uint32) error {
	result, err := n.Cluster().Propose(ctx, &clusterpb.Command{Op: &clusterpb.Command_PutLimits{
		PutLimits: &clusterpb.PutLimits{App: app, Limits: &clusterpb.Limits{Functions: limit}},
	}})
	if err != nil {
		return err
	}
	return state.Refused(result)
}

// LimitOf reads what PutLimits wrote from a view; 0 if there is nothing.
func LimitOf(view *state.View, app string) uint32 {
	a := view.App(state.AppName(app))
	if a == nil || a.Limits == nil {
		return 0
	}
	return a.Limits.GetFunctions()
}
