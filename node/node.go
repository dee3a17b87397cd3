package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/internal/blob"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/link"
	"github.com/covey-dev/covey/node/nodepb"
	"github.com/covey-dev/covey/node/usage"
	"github.com/covey-dev/covey/scheduler"
	"github.com/covey-dev/covey/scheduler/assign"
)

// linkProto is the protocol of the peer link on the peer port.
const linkProto = "covey-invoke"

// recordsKept is how many invocations a node remembers for `covey explain`: some
// minutes of a busy function, a few megabytes.
const recordsKept = 4096

// Node is one running node. Make it with Start, work it with Run.
type Node struct {
	cfg      Config
	log      zerolog.Logger
	started  time.Time
	booted   time.Time // as started, by the clock that is never set
	registry *prometheus.Registry
	listener net.Listener
	// AdminToken is set when Start founded a cluster: the first credential, which
	// also lies in DataDir/admin.token.
	AdminToken string

	cluster  *cluster.Cluster
	sandbox  *sandbox.Sandbox
	runtimes []hosts.Runtime
	blobs    *blob.Store
	sched    *scheduler.Scheduler
	exec     *executor.Executor
	link     *link.Link
	path     *invoke.Path
	records  *invoke.Records
	keyring  *access.Keyring
	meter    *usage.Meter
	journal  *usage.Journal
	api      *api.Server
	planner  *assign.Loop
	// contacts is whom this node heard from itself while it leads.
	contacts contacts
	lease    *lease
	peers    atomic.Pointer[[]cluster.Peer]
	changed  chan struct{} // capacity 1: tells the fleet loop that peers changed

	draining  atomic.Bool
	closeOnce sync.Once
	closeErr  error
	// cleanup are the steps that undo Start, run last-in-first-out.
	cleanup []step
}

type step struct {
	name string
	do   func() error
}

func (n *Node) onClose(name string, do func() error) {
	n.cleanup = append(n.cleanup, step{name, do})
}

// Start founds, joins or resumes a cluster as the configuration says, and opens
// everything that the node consists of. Joining blocks until a member answered
// or ctx ends. Nothing is served before Run; a Node that is not run must be
// closed.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("node configuration: %w", err)
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("node configuration: data-dir: %w", err)
	}
	cfg.DataDir = dir
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger.With().Str("component", "node").Logger(), started: cfg.Clock.Now(), booted: time.Now(),
		registry: cfg.Registry, records: invoke.NewRecords(recordsKept), meter: usage.NewMeter(), lease: newLease(),
		changed: make(chan struct{}, 1),
	}
	n.keyring = access.NewKeyring(accessKeys{n}.source)
	n.peers.Store(&[]cluster.Peer{})
	for _, open := range []func(context.Context) error{
		n.openMetrics, n.openSandbox, n.openRuntimes, n.openListener, n.openCluster, n.openBlobs,
		n.openScheduler, n.openExecutor, n.openUsage, n.openLink, n.openAPI,
	} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// Close undoes Start. It is idempotent, and Run calls it at its end.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		var errs []error
		for i := len(n.cleanup) - 1; i >= 0; i-- {
			if err := n.cleanup[i].do(); err != nil {
				errs = append(errs, fmt.Errorf("close %s: %w", n.cleanup[i].name, err))
			}
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}

// APIAddr is the address that the HTTP API listens on.
func (n *Node) APIAddr() net.Addr { return n.listener.Addr() }

// Cluster is this node's part of the cluster.
func (n *Node) Cluster() *cluster.Cluster { return n.cluster }

func (n *Node) openMetrics(context.Context) error {
	if n.registry != nil {
		return nil
	}
	n.registry = prometheus.NewRegistry()
	return errors.Join(
		n.registry.Register(collectors.NewGoCollector()),
		n.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

// openSandbox comes first: it ends what an earlier daemon left running.
func (n *Node) openSandbox(context.Context) error {
	cfg := sandbox.DefaultConfig()
	cfg.DataDir, cfg.Links, cfg.Logger = n.cfg.DataDir, hosts.Links(n.cfg.DataDir, hosts.Sources()), n.cfg.Logger
	sb, err := sandbox.New(cfg)
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	n.sandbox = sb
	n.onClose("sandbox", sb.Close)
	return nil
}

// openListener binds the API's port before the cluster starts, because the others
// are told where it is.
func (n *Node) openListener(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", n.cfg.API)
	if err != nil {
		return fmt.Errorf("bind api port: %w", err)
	}
	n.listener = l
	n.onClose("api listener", func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// clusterConfig is what the cluster is told about this node.
func (n *Node) clusterConfig() (cluster.Config, error) {
	c := cluster.DefaultConfig()
	if n.cfg.Fast {
		c.Timings = cluster.FastTimings()
	}
	host, port, err := net.SplitHostPort(n.listener.Addr().String())
	if err != nil {
		return c, fmt.Errorf("api address: %w", err)
	}
	c.DataDir, c.Name = n.cfg.DataDir, n.cfg.Name
	c.Peer = cluster.Endpoint{Bind: n.cfg.Peer, Advertise: n.cfg.Advertise}
	c.Gossip = cluster.Endpoint{Bind: n.cfg.Gossip, Advertise: n.cfg.Advertise}
	api := cluster.Endpoint{Bind: net.JoinHostPort(host, port), Advertise: n.cfg.Advertise}
	if c.APIAdvertise, err = api.Advertised(n.listener.Addr()); err != nil {
		return c, fmt.Errorf("api address: %w", err)
	}
	c.Info = cluster.NodeInfo{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(),
		MemoryBytes: uint64(n.memory()), Runtimes: hosts.Names(n.runtimes), SandboxLevel: int(n.sandbox.Level()),
		Labels: n.cfg.Labels,
	}
	c.OnWarm, c.OnPeers = n.onWarm, n.onPeers
	c.Exit = func(reason error) {
		n.log.Error().Err(reason).Msg("disk is beyond hope, ending the process")
		n.cfg.Exit(exitDisk)
	}
	c.Clock, c.Logger, c.Registerer = n.cfg.Clock, n.cfg.Logger, n.registry
	return c, nil
}

// blobDir is the folder of the blob store in the data directory.
const blobDir = "blobs"

// exitDisk is the exit code of a node whose disk hangs (EX_SOFTWARE, so that a
// service manager restarts it).
const exitDisk = 70

// memory is the budget for instances.
func (n *Node) memory() int64 {
	if n.cfg.Memory > 0 {
		return n.cfg.Memory
	}
	return executor.DefaultConfig().Memory
}

func (n *Node) openCluster(ctx context.Context) error {
	cfg, err := n.clusterConfig()
	if err != nil {
		return err
	}
	switch {
	case n.cfg.Init:
		if cfg.AdminToken, err = adminTokenFor(cfg.DataDir); err != nil {
			return err
		}
		if _, err := cluster.Init(ctx, cfg); err != nil {
			return err
		}
		n.AdminToken = cfg.AdminToken
	case n.cfg.Join != "":
		if err := cluster.Join(ctx, cfg, n.cfg.Join); err != nil {
			return err
		}
	}
	if n.cluster, err = cluster.Open(cfg); err != nil {
		if errors.Is(err, cluster.ErrNotFounded) {
			return fmt.Errorf("%w: found a cluster with --init, or join one with --join TOKEN", err)
		}
		return err
	}
	n.onClose("cluster", n.cluster.Close)
	if n.planner, err = assign.New(assign.Config{
		Cluster: n.cluster, Self: n.cluster.ID(), Contacts: n.contacts.snapshot, Settled: n.contacts.gaveUp, Logger: n.cfg.Logger, Registerer: n.registry,
	}); err != nil {
		return err
	}
	n.cluster.LeaderWork(n.lead)
	nodepb.RegisterQuestionsServer(n.cluster, &questions{node: n})
	nodepb.RegisterInstancesServer(n.cluster, &warmer{node: n})
	nodepb.RegisterKeysServer(n.cluster, &keyServer{node: n})
	n.log = n.log.With().Str("node", string(n.cluster.ID())).Logger()
	return nil
}

func (n *Node) openScheduler(context.Context) error {
	cfg := scheduler.DefaultConfig()
	cfg.Self = n.cluster.ID()
	s, err := scheduler.New(cfg)
	if err != nil {
		return err
	}
	n.sched = s
	return nil
}

func (n *Node) openExecutor(context.Context) error {
	cfg := executor.DefaultConfig()
	cfg.DataDir, cfg.Node, cfg.Sandbox = n.cfg.DataDir, string(n.cluster.ID()), n.sandbox
	cfg.Code, cfg.Runtimes = codeStore{n.blobs}.open, n.runtimes
	cfg.Host, cfg.Scale, cfg.OnWarm, cfg.Meter = n.hostCall, n.shouldStart, n.announceWarm, n.metered
	cfg.Share = n.reservedShare
	cfg.Memory, cfg.MaxBody = n.memory(), int(n.cfg.MaxBody)
	cfg.Logger, cfg.Registerer, cfg.Clock = n.cfg.Logger, n.registry, n.cfg.Clock
	e, err := executor.New(cfg)
	if err != nil {
		return err
	}
	n.exec = e
	return nil
}

func (n *Node) openUsage(context.Context) error {
	j, err := usage.Open(usage.Config{
		Dir: n.cfg.DataDir, Boot: n.cluster.Boot(), Commit: n.commitUsage, Clock: n.cfg.Clock, Logger: n.log,
	}, n.meter)
	if err != nil {
		return err
	}
	n.journal = j
	return nil
}

func (n *Node) openLink(context.Context) error {
	l, err := n.cluster.Listen(linkProto)
	if err != nil {
		return fmt.Errorf("listen for the peer link: %w", err)
	}
	n.onClose("peer link listener", func() error { _ = l.Close(); return nil })
	cfg := link.DefaultConfig()
	cfg.Self, cfg.Listener, cfg.PeerID, cfg.Handler = n.cluster.ID(), l, peerOf, n.serveLink
	cfg.Dial = n.dialLink
	cfg.OnState = n.sched.SetLink
	cfg.BodyMax = int(n.cfg.MaxBody) + 64<<10
	cfg.Logger, cfg.Registerer = n.cfg.Logger, n.registry
	if n.link, err = link.New(cfg); err != nil {
		return err
	}
	n.path, err = invoke.NewPath(invoke.Config{
		Self: n.cluster.ID(), View: n.cluster.View, Fresh: n.cluster.Consistent, Placer: n.sched, Local: n.exec, Remote: remote{n.link},
		Draining: n.draining.Load, Records: n.records, Logs: n.logTail, Clock: n.cfg.Clock,
	})
	if err != nil {
		return err
	}
	if err := n.registry.Register(n.path.Traffic()); err != nil {
		return fmt.Errorf("register metrics of traffic: %w", err)
	}
	return nil
}

func (n *Node) openBlobs(context.Context) error {
	cfg := blob.DefaultConfig()
	cfg.Dir, cfg.Self = filepath.Join(n.cfg.DataDir, blobDir), string(n.cluster.ID())
	cfg.Transport = &blobTransport{conn: n.cluster.Conn}
	cfg.Owners, cfg.Alive, cfg.Referenced = n.blobOwners, n.blobAlive, n.blobNamed
	cfg.Logger, cfg.Registerer = n.cfg.Logger, n.registry
	s, err := blob.Open(cfg)
	if err != nil {
		return fmt.Errorf("open blob store: %w", err)
	}
	n.blobs = s
	n.onClose("blob store", func() error { s.Close(); return nil })
	nodepb.RegisterBlobsServer(n.cluster, &blobServer{store: s})
	return nil
}

func (n *Node) openAPI(context.Context) error {
	cfg := api.DefaultConfig()
	cfg.Listener = n.listener
	cfg.Control, cfg.Code, cfg.Invoker, cfg.Operations = control{n.cluster}, uploads{n.blobs, n.cluster}, n.path, operations{n}
	cfg.AccessKeys = accessKeys{n}
	cfg.MaxBody, cfg.DrainTimeout = n.cfg.MaxBody, n.cfg.DrainTimeout
	cfg.Logger, cfg.Registry, cfg.Clock = n.cfg.Logger, n.registry, n.cfg.Clock
	if n.cfg.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(n.cfg.TLSCert, n.cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("load the api's certificate: %w", err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	s, err := api.New(cfg)
	if err != nil {
		return err
	}
	n.api = s
	return nil
}
