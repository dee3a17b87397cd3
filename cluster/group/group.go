package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/covey-dev/covey/internal/logadapt"
)

// Group is this node's member of one Raft group. Safe for concurrent use.
type Group struct {
	cfg     Config
	log     zerolog.Logger
	metrics *groupMetrics

	bridge    *bridge
	watch     *diskWatch
	store     *logCache
	closeLog  func() error
	snapshots snapshots
	addresses *addresses
	transport *transport
	raft      *raft.Raft

	proposals chan struct{} // one token per client proposal in flight
	system    chan struct{} // one per other proposal
	reads     chan struct{} // one per linearizable read
	change    chan struct{} // one token: one membership change at a time
	compact   chan struct{} // one token: one snapshot at a time

	waitsMu sync.RWMutex   // held to add to waits, and to close closing
	waits   sync.WaitGroup // goroutines that wait for Raft's answers

	leading   *leadership
	running   atomic.Bool
	closing   chan struct{} // closed when Close begins
	ended     chan struct{} // closed when Raft has given its last answer
	closeOnce sync.Once
	closeErr  error
}

// Open opens the directory, restores the FSM from the newest snapshot and takes
// part in the group: as an empty server, which waits until a leader adds it, if
// the directory is new. Close ends it. Work for leaders, snapshots and changes of
// who votes happen in Run.
func Open(cfg Config) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open group %s: %w", cfg.Name, err)
	}
	g := newGroup(cfg)
	// Undone last-in-first-out if a later step fails.
	undo := []func() error{func() error { g.leading.close(); return nil }}
	fail := func(err error) (*Group, error) {
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
		return nil, fmt.Errorf("open group %s: %w", cfg.Name, err)
	}

	var err error
	if g.metrics, err = newGroupMetrics(cfg.Registerer, cfg.Name, g.gauges()); err != nil {
		return fail(err)
	}
	undo = append(undo, func() error { g.metrics.set.unregister(); return nil })
	if err := g.openStores(); err != nil {
		return fail(err)
	}
	undo = append(undo, g.closeStores)
	stream, err := newStream(cfg.Mux, raftProto(cfg.Name), cfg.Advertise, cfg.Timings.Dial)
	if err != nil {
		return fail(err)
	}
	g.transport = newTransport(transportConfig{
		stream: stream, addresses: g.addresses, timings: cfg.Timings,
		logger: logadapt.NewHCLog(g.log, "raft-net"), onVouch: g.metrics.vouched.Inc,
		patience: cfg.vouchAfter,
	})
	undo = append(undo, g.transport.Close)
	g.raft, err = raft.NewRaft(g.raftConfig(), g.bridge, g.store, g.store, g.snapshots, g.transport)
	if err != nil {
		return fail(fmt.Errorf("start raft: %w", err))
	}
	g.transport.watch(g.raft)
	undo = append(undo, func() error { return g.raft.Shutdown().Error() })
	return g, nil
}

// newGroup makes the parts that need nothing from outside and cannot fail.
func newGroup(cfg Config) *Group {
	g := &Group{
		cfg:       cfg,
		log:       cfg.Logger.With().Str("component", "group").Str("group", cfg.Name).Logger(),
		bridge:    newBridge(cfg.FSM),
		proposals: make(chan struct{}, cfg.Limits.Proposals),
		system:    make(chan struct{}, max(cfg.Limits.Proposals/10, 8)),
		reads:     make(chan struct{}, cfg.Limits.Reads),
		change:    make(chan struct{}, 1),
		compact:   make(chan struct{}, 1),
		closing:   make(chan struct{}),
		ended:     make(chan struct{}),
		leading:   newLeadership(),
	}
	g.addresses = &addresses{
		self: cfg.ID, advertise: cfg.Advertise, servers: cfg.Servers, members: g.Members,
	}
	return g
}

// raftProto is the protocol of Raft's own requests.
func raftProto(name string) string { return "covey-raft-" + name }

// statProto is the protocol of the leader's questions for health.
func statProto(name string) string { return "covey-stat-" + name }

// openStores builds the tower of stores: file, injected fault, watch, cache.
func (g *Group) openStores() error {
	file, err := openLog(g.cfg.Dir)
	if err != nil {
		return err
	}
	g.snapshots, err = openSnapshots(g.cfg.Dir, logadapt.NewHCLog(g.log, "raft-snapshot"))
	if err == nil {
		err = checkStored(file, g.snapshots)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	var store LogStore = file
	if g.cfg.Disk.Wrap != nil {
		store = g.cfg.Disk.Wrap(store)
	}
	g.closeLog = file.Close
	g.watch = newDiskWatch(store, g.cfg.Dir, g.cfg.Disk, g.log, g.cfg.Exit)
	g.watch.written, g.watch.full = g.metrics.write, g.metrics.diskFull
	g.watch.start()
	g.store = newLogCache(g.watch, g.cfg.Limits.CacheBytes)
	return nil
}

// closeStores ends the watch first: it must not look at a store that is gone.
func (g *Group) closeStores() error {
	g.watch.close()
	return g.closeLog()
}

// raftConfig maps our configuration to the library's.
func (g *Group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	t, l := g.cfg.Timings, g.cfg.Limits
	c.LocalID = raft.ServerID(g.cfg.ID)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.Lease
	c.CommitTimeout = min(50*time.Millisecond, t.Heartbeat/10)
	c.BatchApplyCh = true
	c.TrailingLogs = l.TrailingEntries
	// Snapshots are taken by snapshotLoop, which also counts bytes.
	c.SnapshotInterval = 24 * time.Hour
	c.SnapshotThreshold = 1 << 62
	// A removed or demoted server stays up; its owner decides what it becomes.
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.NotifyCh = g.leading.notify
	c.Logger = logadapt.NewHCLog(g.log, "raft")
	return c
}

// Bootstrap founds the group with this node as its only voter. It is the only
// way a group comes into being, and is done once in a cluster's life.
func (g *Group) Bootstrap() error {
	err := g.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter,
		ID:       raft.ServerID(g.cfg.ID),
		Address:  raft.ServerAddress(g.cfg.Advertise),
	}}}).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrBootstrapped
	}
	if err != nil {
		return fmt.Errorf("bootstrap group %s: %w", g.cfg.Name, err)
	}
	return nil
}

// HasState reports whether a directory holds a group: whether Open would resume
// it. It opens nothing.
func HasState(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, logFile))
	return err == nil && info.Size() > 0
}

// Run does the group's work until ctx ends or the group is closed, and returns
// when all of it has ended. It may be called once.
func (g *Group) Run(ctx context.Context) error {
	if !g.running.CompareAndSwap(false, true) {
		return fmt.Errorf("run group %s: already run", g.cfg.Name)
	}
	if !g.cfg.ManualMembership {
		g.leading.add(g.manageMembers)
	}
	stats, err := g.cfg.Mux.Listen(statProto(g.cfg.Name), MembersOnly)
	if err != nil {
		return fmt.Errorf("run group %s: %w", g.cfg.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		select {
		case <-g.closing:
		case <-ctx.Done():
		}
		cancel()
		return stats.Close()
	})
	work.Go(func() error { return g.leading.run(ctx, g.whenLeading) })
	work.Go(func() error { return g.snapshotLoop(ctx) })
	work.Go(func() error { return g.serveStats(ctx, stats) })
	if err := work.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("run group %s: %w", g.cfg.Name, err)
	}
	return nil
}

// Close leaves without telling anybody: transfer leadership before. It ends Run,
// stops Raft and closes the stores; it may be called before Run, twice and
// concurrently. Proposals in flight end with ErrOutcomeUnknown.
func (g *Group) Close() error {
	g.closeOnce.Do(func() {
		g.waitsMu.Lock()
		close(g.closing)
		g.waitsMu.Unlock()
		// Raft forgets questions that are queued when it stops, and whoever waits for
		// one would wait for ever. So it first answers those under way: it commits
		// them, or finds within a lease that it leads no more.
		t := g.cfg.Timings
		g.awaitAnswers(t.Election + 2*t.Lease + time.Second)
		g.transport.pipes.close()
		err := g.raft.Shutdown().Error()
		err = errors.Join(err, g.transport.Close())
		if !g.awaitAnswers(time.Second) {
			g.log.Warn().Msg("closed with questions that raft never answered")
		}
		close(g.ended)
		g.leading.close()
		g.closeErr = errors.Join(err, g.closeStores())
		g.metrics.set.unregister()
	})
	return g.closeErr
}

// awaitAnswers waits for the goroutines that wait for Raft, but not for ever;
// false means that some still do.
func (g *Group) awaitAnswers(limit time.Duration) bool {
	done := make(chan struct{})
	// Ends with the last answer.
	go func() {
		g.waits.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
