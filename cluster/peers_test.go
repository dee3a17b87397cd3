package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/clustertest"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// told is what a node was told through its callbacks.
type told struct {
	mu    sync.Mutex
	warm  map[string]bool
	peers []cluster.Peer
}

func TestPeersAndWarmSetsAreTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	all := map[string]*told{}
	fleet := clustertest.Start(t, 2, clustertest.Tune(func(c *cluster.Config) {
		to := &told{warm: map[string]bool{}}
		mu.Lock()
		all[c.Name] = to
		mu.Unlock()
		c.OnWarm = func(node state.NodeID, f uint64, warm bool) {
			to.mu.Lock()
			defer to.mu.Unlock()
			to.warm[fmt.Sprintf("%s/%d", node, f)] = warm
		}
		c.OnPeers = func(peers []cluster.Peer) {
			to.mu.Lock()
			defer to.mu.Unlock()
			to.peers = peers
		}
	}))
	a, b := fleet.Nodes()[0].Cluster(), fleet.Nodes()[1]
	id := b.Cluster().ID()
	at := func() *told {
		mu.Lock()
		defer mu.Unlock()
		return all["node-a"]
	}
	b.Cluster().AnnounceWarm(42, true)
	clustertest.Eventually(t, 20*time.Second, "hear of the warm function", func() error {
		to := at()
		to.mu.Lock()
		defer to.mu.Unlock()
		if !to.warm[fmt.Sprintf("%s/42", id)] {
			return fmt.Errorf("told %v", to.warm)
		}
		if i := slices.IndexFunc(to.peers, func(p cluster.Peer) bool { return p.ID == id }); i < 0 || !to.peers[i].Alive {
			return fmt.Errorf("told of peers %+v", to.peers)
		}
		return nil
	})
	b.Kill()
	clustertest.Eventually(t, 20*time.Second, "hear of the death", func() error {
		for _, p := range a.Peers() {
			if p.ID == id && p.Alive {
				return errors.New("killed node is seen alive")
			}
		}
		return nil
	})
}

// whoServer answers with the id of its caller.
type whoServer interface {
	Who(context.Context) (string, error)
}

type who struct{}

func (who) Who(ctx context.Context) (string, error) {
	id, ok := cluster.PeerID(ctx)
	if !ok {
		return "", errors.New("caller is unknown")
	}
	return string(id), nil
}

func whoDesc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.Who", HandlerType: (*whoServer)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Who",
			Handler: func(srv any, ctx context.Context, dec func(any) error, mw grpc.UnaryServerInterceptor) (any, error) {
				in := &emptypb.Empty{}
				if err := dec(in); err != nil {
					return nil, err
				}
				return mw(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Who/Who"},
					func(ctx context.Context, _ any) (any, error) {
						id, err := srv.(whoServer).Who(ctx)
						return wrapperspb.String(id), err
					})
			},
		}},
	}
}

// TestOtherPackagesTalkOverThePeerPort: by gRPC and by connections of their own,
// and both ends know who the other is.
func TestOtherPackagesTalkOverThePeerPort(t *testing.T) {
	t.Parallel()
	fleet := clustertest.New(t)
	fleet.OnOpen(func(c *cluster.Cluster) { c.RegisterService(whoDesc(), who{}) })
	fleet.Found()
	fleet.Join()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b := fleet.Nodes()[0].Cluster(), fleet.Nodes()[1].Cluster()
	conn, err := a.Conn(ctx, b.ID())
	if err != nil {
		t.Fatal(err)
	}
	out := &wrapperspb.StringValue{}
	if err := conn.Invoke(ctx, "/test.Who/Who", &emptypb.Empty{}, out); err != nil || out.GetValue() != string(a.ID()) {
		t.Errorf("handler saw %q, %v; want %s", out.GetValue(), err, a.ID())
	}

	l, err := b.Listen("covey-test")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			if id, ok := group.PeerOf(c); !ok || string(id) != string(a.ID()) {
				err = fmt.Errorf("listener saw %s", id)
			}
			_, werr := io.WriteString(c, "hello")
			err = errors.Join(err, werr, c.Close())
		}
		done <- err
	}()
	c, err := a.Dial(ctx, b.ID(), "covey-test")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	_ = c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := a.Dial(ctx, "nobody", "covey-test"); !errors.Is(err, cluster.ErrUnknownNode) {
		t.Errorf("dial of nobody: %v, want ErrUnknownNode", err)
	}
}

// TestNobodyTakesAMembersPlace: a join token is no licence to be somebody else,
// and only voters hand over keys.
func TestNobodyTakesAMembersPlace(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b := fleet.Nodes()[0].Cluster(), fleet.Nodes()[1].Cluster()
	token, err := a.CreateJoinToken(ctx, time.Hour, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := a.View().Member(b.ID())
	if err := cluster.JoinAs(ctx, fleet.Empty().Config(), token, b.ID()); !errors.Is(err, cluster.ErrBadCredential) {
		t.Errorf("join under a member's id: %v, want ErrBadCredential", err)
	}
	if got := a.View().Member(b.ID()); got.Name != before.Name {
		t.Error("member's record was changed")
	}
	if err := b.PushKeys(ctx, a.ID()); !errors.Is(err, cluster.ErrDenied) {
		t.Errorf("keys from a node that does not vote: %v, want ErrDenied", err)
	}
}

// TestR17LeadershipFlaps: work for leaders runs on one node at a time, once per
// leadership, and the cluster takes writes afterwards.
func TestR17LeadershipFlaps(t *testing.T) {
	t.Parallel()
	var running, most, runs atomic.Int64
	fleet := clustertest.New(t)
	fleet.OnOpen(func(c *cluster.Cluster) {
		c.LeaderWork(func(ctx context.Context) {
			runs.Add(1)
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-ctx.Done()
			running.Add(-1)
		})
	})
	fleet.Found()
	fleet.Join()
	fleet.Join()
	fleet.AwaitSettled()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for round := range clustertest.Times(5, 200) {
		old := fleet.Leader()
		clustertest.Eventually(t, 20*time.Second, "hand over", func() error {
			if !old.Cluster().IsLeader() {
				return nil
			}
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return old.Cluster().TransferLeadership(short)
		})
		if err := clustertest.PutLimits(ctx, fleet.Nodes()[round%3], "flap", uint32(round+1)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	fleet.AwaitSameState()
	if runs.Load() < int64(clustertest.Times(5, 200)) {
		t.Errorf("leader work ran %d times", runs.Load())
	}
	// Two leaderships may overlap for a lease, when the old one cannot know yet.
	if most.Load() > 2 {
		t.Errorf("leader work ran on %d nodes at a time", most.Load())
	}
}

func TestLifeCycleInAnyOrder(t *testing.T) {
	t.Parallel()
	fleet := clustertest.New(t)
	n := fleet.Empty()
	if _, err := cluster.Init(t.Context(), n.Config()); err != nil {
		t.Fatal(err)
	}
	open := func() *cluster.Cluster {
		t.Helper()
		c, err := cluster.Open(n.Config())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// Closed before it ran, and twice.
	c := open()
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Errorf("close before run: %v", err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("closed cluster runs")
	}
	// Closed at the same time as it runs, by two.
	c = open()
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(t.Context()) })
	wg.Go(func() { _ = c.Close() })
	wg.Go(func() { _ = c.Close() })
	wg.Wait()
	// Run with a context that has ended.
	c = open()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ended); err != nil {
		t.Errorf("run with an ended context: %v", err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("cluster runs twice")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	// A start that fails half-way leaves nothing behind that the next one misses.
	other := fleet.Found()
	cfg := n.Config()
	cfg.Peer.Bind = other.Cluster().PeerAddress()
	if _, err := cluster.Open(cfg); err == nil {
		t.Error("opened on a port that is taken")
	}
	n.Start()
	n.AwaitReady()
	if n.Cluster().Status().Role == clusterpb.Role_ROLE_UNSPECIFIED {
		t.Error("status shows no role")
	}
}

// TestInterruptedJoinGoesOnAsTheSameNode: the answer was lost, the next attempt
// must not leave a ghost among the members.
func TestInterruptedJoinGoesOnAsTheSameNode(t *testing.T) {
	t.Parallel()
	fleet := clustertest.New(t)
	first := fleet.Found()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	token, err := first.Cluster().CreateJoinToken(ctx, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	n := fleet.Empty()
	tooShort, cancelShort := context.WithTimeout(ctx, time.Nanosecond)
	defer cancelShort()
	if err := cluster.Join(tooShort, n.Config(), token); err == nil {
		t.Fatal("join without time succeeded")
	}
	for range 2 {
		if err := cluster.Join(ctx, n.Config(), token); err != nil {
			t.Fatal(err)
		}
	}
	if got := first.Cluster().View().MemberCount(); got != 2 {
		t.Errorf("%d members, want 2", got)
	}
}
