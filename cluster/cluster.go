package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/gossip"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// Cluster is this node's part of a cluster. It is safe for concurrent use.
type Cluster struct {
	cfg   Config
	log   zerolog.Logger
	dir   *dataDir
	id    identity
	boot  uint64
	creds *trust.Credentials

	machine *machine
	mux     *group.Mux
	group   *group.Group
	gossip  *gossip.Gossip
	conns   *connections
	reads   *readBatch
	members *grpc.Server // Serves nodes of the cluster.
	joiners *grpc.Server // Serves machines that are not yet.

	peerAddress string // As others are told.
	epoch       atomic.Pointer[string]
	feedLeader  atomic.Pointer[state.NodeID] // The leader as the feed says; observers only.
	book        atomic.Pointer[addressBook]
	clocks      clockCheck
	custodyAt   atomic.Int64 // When custody was taken, Unix nanoseconds.

	// reconcile and peersChanged wake loops of Run; capacity 1, a wake-up that
	// finds one full is not lost.
	reconcile    chan struct{}
	peersChanged chan struct{}

	ready     chan struct{}
	readyOnce sync.Once
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	running   atomic.Bool
}

// Open resumes the node of a data directory that Init, Join or Restore made. It
// binds the ports and takes part in Raft at once; Run does the rest. The caller
// closes it.
func Open(cfg Config) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Exit == nil {
		return nil, errors.New("cluster config: Exit is nil")
	}
	c := &Cluster{
		cfg:          cfg,
		reconcile:    make(chan struct{}, 1),
		peersChanged: make(chan struct{}, 1),
		ready:        make(chan struct{}),
		closing:      make(chan struct{}),
	}
	// Undone last-in-first-out if a later step fails.
	var undo []func() error
	for _, step := range []func() (func() error, error){
		c.openDir, c.openMachine, c.openPeerPort, c.openGossip, c.openGroup, c.openRPC,
	} {
		closer, err := step()
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
			return nil, fmt.Errorf("open node in %s: %w", cfg.DataDir, err)
		}
		undo = append(undo, closer)
	}
	return c, nil
}

// openDir locks the data directory and learns who this node is.
func (c *Cluster) openDir() (func() error, error) {
	dir, err := openDataDir(c.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (func() error, error) { return nil, errors.Join(err, dir.Close()) }
	if c.id, err = dir.identity(); err != nil {
		return fail(err)
	}
	if c.creds, err = trust.OpenCredentials(dir.file(keysDir)); err != nil {
		return fail(err)
	}
	if c.creds.Identity().Node() != c.id.ID || c.creds.Authority().Cluster() != c.id.Cluster {
		return fail(fmt.Errorf("keys are of node %s: %w", c.creds.Identity().Node(), ErrForeign))
	}
	if c.boot, err = dir.nextBoot(); err != nil {
		return fail(err)
	}
	epoch, err := dir.epoch()
	if err != nil {
		return fail(err)
	}
	c.epoch.Store(&epoch)
	c.dir = dir
	c.log = c.cfg.Logger.With().Str("component", "cluster").Str("node", string(c.id.ID)).Logger()
	c.custodyAt.Store(time.Now().UnixNano())
	return dir.Close, nil
}

// openMachine loads the node's copy of the state.
func (c *Cluster) openMachine() (func() error, error) {
	m, err := newMachine(c.dir.file(copyDir), c.log)
	if err != nil {
		return nil, err
	}
	if founded := m.View().ClusterID(); founded != "" && founded != c.id.Cluster {
		return nil, errors.Join(fmt.Errorf("state is of cluster %s: %w", founded, ErrForeign), m.Close())
	}
	c.machine = m
	return m.Close, nil
}

// openPeerPort binds the port for everything between nodes.
func (c *Cluster) openPeerPort() (func() error, error) {
	l, err := net.Listen("tcp", c.cfg.Peer.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind peer port: %w", err)
	}
	if c.peerAddress, err = c.cfg.Peer.Advertised(l.Addr()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	// A certificate that ran out while everybody was off would keep the voters
	// from ever meeting again; whoever holds the authority's key renews by itself.
	if err := c.renewBySelf(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	c.mux, err = group.NewMux(group.MuxConfig{
		Listener: l, TLS: c.tls, Identify: c.identify, Dial: c.cfg.Dial, Logger: c.log, Registerer: c.cfg.Registerer,
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	c.conns = newConnections(func(ctx context.Context, id state.NodeID) (net.Conn, error) {
		return c.Dial(ctx, id, rpcProto)
	})
	return func() error { return errors.Join(c.conns.Close(), c.mux.Close()) }, nil
}

// openGossip binds the port for hints.
func (c *Cluster) openGossip() (func() error, error) {
	advertise, err := c.cfg.Gossip.advertisedUnbound()
	if err != nil {
		return nil, err
	}
	g, err := gossip.New(gossip.Config{
		ID: c.id.ID, Boot: c.boot, Cluster: c.id.Cluster, Key: c.creds.GossipKey(),
		Bind: c.cfg.Gossip.Bind, Advertise: advertise, Meta: c.gossipMeta(),
		Admit: c.admit, Known: c.knownGossip,
		OnPeers: c.wakePeers, OnWarm: c.cfg.OnWarm,
		Timings: c.cfg.Timings.Gossip, Logger: c.log,
	})
	if err != nil {
		return nil, err
	}
	c.gossip = g
	return g.Close, nil
}

// openGroup joins Raft, or founds it if this node is the cluster's first.
func (c *Cluster) openGroup() (func() error, error) {
	cfg := group.DefaultConfig()
	cfg.Name, cfg.Dir = "control", c.dir.file(raftDir)
	cfg.ID, cfg.Advertise = group.NodeID(c.id.ID), c.peerAddress
	cfg.FSM, cfg.Mux = c.machine, c.mux
	cfg.Servers, cfg.BeforeChange, cfg.AfterChange = c.servers, c.beforeChange, c.afterChange
	cfg.Exit, cfg.Timings, cfg.Limits, cfg.Disk = c.cfg.Exit, c.cfg.Timings.Raft, c.cfg.Limits, c.cfg.Disk
	cfg.Logger, cfg.Registerer = c.log, c.cfg.Registerer
	g, err := group.Open(cfg)
	if err != nil {
		return nil, err
	}
	c.group = g
	c.reads = newReadBatch(c.readLeader)
	if c.dir.founding() {
		if err := g.Bootstrap(); err != nil && !errors.Is(err, group.ErrBootstrapped) {
			return nil, errors.Join(err, g.Close())
		}
	}
	g.LeaderWork(c.lead)
	return g.Close, nil
}

// openRPC prepares the gRPC servers; Run serves them.
func (c *Cluster) openRPC() (func() error, error) {
	c.members = newRPCServer(c.admit, true)
	c.joiners = newRPCServer(c.admit, false)
	clusterpb.RegisterControlServiceServer(c.members, &controlServer{c: c})
	clusterpb.RegisterJoinServiceServer(c.joiners, &joinServer{c: c})
	return func() error {
		c.members.Stop()
		c.joiners.Stop()
		return nil
	}, nil
}

// Run does the node's part of the cluster's work. When ctx ends it hands over
// leadership, says goodbye to gossip and returns once all its goroutines have
// ended. It may be called once. It returns ErrRemoved if the node was removed.
func (c *Cluster) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("run cluster: already run")
	}
	rpc, err := c.mux.Listen(rpcProto, group.MembersOnly)
	if err != nil {
		return fmt.Errorf("run cluster: %w", err)
	}
	join, err := c.mux.Listen(joinProto, group.AnyPeer)
	if err != nil {
		return errors.Join(fmt.Errorf("run cluster: %w", err), rpc.Close())
	}
	// The work outlives ctx until goodbye is said, and ends with Close at once.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	tasks, work := errgroup.WithContext(work)
	tasks.Go(func() error {
		select {
		case <-ctx.Done():
			c.goodbye()
		case <-c.closing:
		case <-work.Done():
		}
		stop()
		c.members.Stop()
		c.joiners.Stop()
		return nil
	})
	tasks.Go(func() error { return serve(c.members, rpc) })
	tasks.Go(func() error { return serve(c.joiners, join) })
	for _, task := range []func(context.Context) error{
		c.group.Run, c.gossip.Run, c.follow, c.watchState, c.watchPeers, c.keepMember,
		c.keepCustody, c.keepCertificate, c.compareClocks,
	} {
		tasks.Go(func() error { return task(work) })
	}
	if err := tasks.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("run cluster: %w", err)
	}
	return nil
}

// serve runs a gRPC server until it is stopped.
func serve(s *grpc.Server, l net.Listener) error {
	if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve rpc: %w", err)
	}
	return nil
}

// goodbye makes an orderly end quick for the others. Each step is bounded and may
// fail: the others find out by themselves.
func (c *Cluster) goodbye() {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timings.Goodbye)
	defer cancel()
	if c.group.IsLeader() && c.voters() > 1 {
		if err := c.group.TransferLeadership(ctx, ""); err != nil {
			c.log.Info().Err(err).Msg("leadership not handed over")
		}
	}
	if err := c.gossip.Leave(c.cfg.Timings.Goodbye); err != nil {
		c.log.Debug().Err(err).Msg("gossip goodbye not heard")
	}
}

// Close frees everything. Without an end of Run's context before it, it is an
// abrupt end that the others have to notice. It is idempotent, and may be called
// before, during and after Run.
func (c *Cluster) Close() error {
	c.closeOnce.Do(func() {
		close(c.closing)
		c.members.Stop()
		c.joiners.Stop()
		c.closeErr = errors.Join(
			c.group.Close(), c.gossip.Close(), c.conns.Close(), c.mux.Close(), c.machine.Close(), c.dir.Close(),
		)
	})
	return c.closeErr
}

// Ready is closed once this node has the state of a cluster that it belongs to.
// It says nothing about a quorum: a node serves reads without.
func (c *Cluster) Ready() <-chan struct{} { return c.ready }

// ID returns this node's id.
func (c *Cluster) ID() state.NodeID { return c.id.ID }

// ClusterID returns the cluster's id.
func (c *Cluster) ClusterID() state.ClusterID { return c.id.Cluster }

// Boot returns the number of this start of the node; it grows with each.
func (c *Cluster) Boot() uint64 { return c.boot }

// PeerAddress returns the address that other nodes reach this one at.
func (c *Cluster) PeerAddress() string { return c.peerAddress }

// GossipAddress returns the address of this node's gossip port as others are told.
func (c *Cluster) GossipAddress() string { return c.gossip.Address() }

// View returns this node's copy of the state. It never blocks.
func (c *Cluster) View() *state.View { return c.machine.View() }

// Changed returns a channel that is closed at the next change of the state. Take
// it before the View that it belongs to, or a change in between is missed.
func (c *Cluster) Changed() <-chan struct{} {
	_, changed := c.machine.Position()
	return changed
}

// KEK returns the key-encryption key for secrets; nil where the node is no voter.
func (c *Cluster) KEK() []byte { return c.creds.KEK() }

// LeaderWork registers work that this node does while it leads. It runs once per
// leadership under a context that ends with it, and the next leadership waits for
// its return. Register before Run.
func (c *Cluster) LeaderWork(work func(context.Context)) {
	c.group.LeaderWork(func(ctx context.Context) {
		if c.awaitFounded(ctx) {
			work(ctx)
		}
	})
}

// RegisterService adds a gRPC service that other members can call; its handlers
// learn the caller with PeerID. Register before Run.
func (c *Cluster) RegisterService(desc *grpc.ServiceDesc, impl any) {
	c.members.RegisterService(desc, impl)
}

var _ grpc.ServiceRegistrar = (*Cluster)(nil)

// Conn returns the gRPC connection to another member. It is shared and connects
// when first used; callers do not close it.
func (c *Cluster) Conn(_ context.Context, node state.NodeID) (*grpc.ClientConn, error) {
	return c.conns.get(node)
}

// Listen returns the listener of a protocol on the peer port. Its connections
// are mutually authenticated; group.PeerOf tells the other end.
func (c *Cluster) Listen(proto string) (net.Listener, error) {
	return c.mux.Listen(proto, group.MembersOnly)
}

// AnnounceWarm tells the other nodes that a version is warm here, or no longer;
// the version is named by its hash.
func (c *Cluster) AnnounceWarm(function uint64, warm bool) { c.gossip.AnnounceWarm(function, warm) }
