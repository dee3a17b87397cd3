package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestGroupReplicates(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, onDisk)
	for i := range 20 {
		w.propose(fmt.Sprintf("k%d=v%d", i, i))
	}
	w.agree(w.nodes...)
	if got := w.nodes[2].fsm.get("k19"); got != "v19" {
		t.Errorf("follower has k19=%q", got)
	}
}

func TestFollowerNamesTheLeader(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	leader := w.leader()
	follower := w.others(leader)[0]
	eventually(t, time.Minute, "the leader's name", func() error {
		_, _, err := follower.group.Propose(t.Context(), []byte("a=b"))
		nl, ok := errors.AsType[*NotLeaderError](err)
		if !ok || !errors.Is(err, ErrNotLeader) {
			return fmt.Errorf("error is %w", err)
		}
		if nl.ID != leader.id || nl.Addr != leader.addr {
			return fmt.Errorf("named %s at %s", nl.ID, nl.Addr)
		}
		return nil
	})
	if _, err := follower.group.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("read on a follower: %v", err)
	}
}

func TestLeaderKilledAnotherTakesOver(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	w.propose("before=1")
	old := w.leader()
	old.kill()
	w.propose("after=1")
	if next := w.leader(); next == old {
		t.Fatal("a dead node leads")
	}
	old.start()
	w.agree(w.nodes...)
}

func TestTransferLeadership(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	from := w.leader()
	to := w.others(from)[1]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := from.group.TransferLeadership(ctx, to.id)
	for err != nil && ctx.Err() == nil { // a busy machine needs more time than raft gives
		if from = w.leader(); from == to {
			break
		}
		err = from.group.TransferLeadership(ctx, to.id)
	}
	if err != nil && from != to {
		t.Fatal(err)
	}
	if now := w.leader(); now != to {
		t.Errorf("%s leads, not %s", now.id, to.id)
	}
}

func TestRestartKeepsStateAndAddressMayChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, onDisk)
	w.propose("a=1")
	nd := w.nodes[0]
	nd.kill()
	nd.addr = "127.0.0.1:0"
	nd.start()
	w.mu.Lock()
	w.known[0].Addr = nd.addr
	w.mu.Unlock()
	w.propose("b=2")
	if got := nd.fsm.get("a"); got != "1" {
		t.Errorf("a=%q after the restart", got)
	}
	eventually(t, time.Minute, "the new address in the configuration", func() error {
		if got := nd.group.Members()[0].Addr; got != nd.addr {
			return fmt.Errorf("address is %s", got)
		}
		return nil
	})
}

func TestProposalErrorsSayWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, func(c *Config) { c.Limits.EntryBytes, c.Limits.Proposals = 100, 1 })
	nd := w.nodes[0]
	if _, _, err := nd.group.Propose(t.Context(), make([]byte, 101)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large entry: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := nd.group.Propose(gone, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("proposal of a caller that is gone: %v", err)
	}

	// A caller that leaves keeps its place until the entry is through.
	gate := make(chan struct{})
	nd.fsm.mu.Lock()
	nd.fsm.before = func() { <-gate }
	nd.fsm.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := nd.group.Propose(ctx, []byte("a=1")); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("proposal that outlasts its caller: %v", err)
	}
	if _, _, err := nd.group.Propose(t.Context(), []byte("b=1")); !errors.Is(err, ErrOverloaded) {
		t.Errorf("proposal above the limit: %v", err)
	}
	close(gate)
	w.propose("c=1")
	if nd.fsm.get("a") != "1" || nd.fsm.get("b") != "" {
		t.Errorf("state %v", nd.fsm.read().Values)
	}
	nd.kill()
	// Not "no leader", which would have callers ask again for ever.
	if _, _, err := nd.group.Propose(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed group answered a proposal: %v", err)
	}
	if _, err := nd.group.ReadIndex(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed group answered a read: %v", err)
	}
}

func TestReadIndexSeesAnsweredWrites(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	for _, nd := range w.nodes {
		nd.fsm.mu.Lock()
		nd.fsm.before = func() { <-time.After(time.Millisecond) } // applying lags
		nd.fsm.mu.Unlock()
	}
	var leader *node
	for i := range 20 {
		index := w.propose(fmt.Sprintf("n=%d", i))
		var read Index
		eventually(t, time.Minute, "a read", func() (err error) {
			leader = w.leader() // may change on a busy machine
			read, err = leader.group.ReadIndex(t.Context())
			return err
		})
		if got := leader.fsm.get("n"); read < index || got != fmt.Sprint(i) {
			t.Fatalf("read n=%s at %d after writing %d at %d", got, read, i, index)
		}
	}
	follower := w.others(leader)[0]
	last := w.propose("n=last")
	if err := follower.group.WaitApplied(t.Context(), last); err != nil || follower.fsm.get("n") != "last" {
		t.Errorf("follower has n=%s, %v", follower.fsm.get("n"), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := follower.group.WaitApplied(ctx, last+1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for the future: %v", err)
	}
}

func TestChangesHaveHooksAndOneAtATime(t *testing.T) {
	t.Parallel()
	var (
		mu      sync.Mutex
		changes []string
		running int
	)
	refuse := errors.New("keys not handed over")
	w := newWorld(t, 3, func(c *Config) {
		c.ManualMembership = true
		c.BeforeChange = func(_ context.Context, ch Change) error {
			mu.Lock()
			defer mu.Unlock()
			if running++; running > 1 {
				t.Error("two changes at once")
			}
			if ch.Server.ID == "node-3" {
				running--
				return refuse
			}
			return nil
		}
		c.AfterChange = func(_ context.Context, ch Change) {
			mu.Lock()
			defer mu.Unlock()
			running--
			changes = append(changes, fmt.Sprintf("%s %v>%v", ch.Server.ID, ch.From, ch.To))
		}
	})
	g := w.nodes[0].group
	two := Server{ID: "node-2", Addr: w.nodes[1].addr}
	err := errors.Join(g.AddStandby(t.Context(), two), g.AddVoter(t.Context(), two),
		g.AddVoter(t.Context(), two), // again: no change of role, no hook
		g.Demote(t.Context(), "node-2"), g.Demote(t.Context(), "node-2"),
		g.Remove(t.Context(), "node-2"), g.Remove(t.Context(), "node-2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.AddStandby(t.Context(), Server{ID: "node-3", Addr: w.nodes[2].addr}); !errors.Is(err, refuse) {
		t.Errorf("a refused change: %v", err)
	}
	if err := g.Remove(t.Context(), "node-1"); err == nil {
		t.Error("the leader removed itself")
	}
	want := []string{"node-2 observer>standby", "node-2 standby>voter", "node-2 voter>standby", "node-2 standby>observer"}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Error(diff)
	}
	if err := w.nodes[1].group.AddStandby(t.Context(), two); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower changed roles: %v", err)
	}
}

func TestStatsDescribeTheMember(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	w := newWorld(t, 1, func(c *Config) { c.Registerer = reg })
	w.propose("a=1")
	s := w.nodes[0].group.Stats()
	if s.State != "Leader" || s.Role != Voter || s.Leader != "node-1" || s.Term == 0 || s.Applied == 0 ||
		s.Applied > s.Commit || s.LastContact != 0 || len(s.Members) != 1 || s.DiskLow {
		t.Errorf("stats %+v", s)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"covey_group_proposals_total", "covey_group_proposals_limit", "covey_group_log_write_seconds"} {
		if !slices.Contains(names, want) {
			t.Errorf("metric %s is missing from %v", want, names)
		}
	}
}

func TestGroupLifeCycle(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	reg := prometheus.NewRegistry()
	config := func(dir string) Config {
		c := DefaultConfig()
		c.Name, c.Dir, c.ID, c.Advertise = "life", dir, "a", "127.0.0.1:1"
		c.FSM, c.Mux = newRecord(), newTestMux(t, ca, "a", nil)
		c.Servers = func() []Server { return nil }
		c.Exit = func(error) {}
		c.Disk.Reserve, c.Disk.Low = 0, 0
		c.Registerer = reg
		return c
	}
	open := func(c Config) *Group {
		g, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}

	t.Run("close before run", func(t *testing.T) {
		g := open(config(t.TempDir()))
		if err := errors.Join(g.Close(), g.Close()); err != nil {
			t.Error(err)
		}
		if err := g.Run(t.Context()); err != nil {
			t.Errorf("run after close: %v", err)
		}
	})
	t.Run("close ends run", func(t *testing.T) {
		c := config(t.TempDir())
		g := open(c)
		ran := make(chan error, 1)
		go func() { ran <- g.Run(context.Background()) }()
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(func() {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		closers.Wait()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := g.Run(t.Context()); err == nil {
			t.Error("run twice")
		}
		if err := open(c).Close(); err != nil { // everything is free again
			t.Error(err)
		}
	})
	t.Run("failed construction leaves nothing", func(t *testing.T) {
		c := config(t.TempDir())
		taken, err := c.Mux.Listen(raftProto("life"), MembersOnly)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(c); err == nil {
			t.Fatal("opened on a protocol that was taken")
		}
		_ = taken.Close()
		if err := open(c).Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("one directory, two groups", func(t *testing.T) {
		c := config(t.TempDir())
		g := open(c)
		defer g.Close()
		second := config(c.Dir)
		second.Registerer = nil
		if _, err := Open(second); err == nil {
			t.Error("opened twice")
		}
	})
	t.Run("two groups side by side", func(t *testing.T) {
		c := config(t.TempDir())
		other := c
		other.Name, other.Dir, other.FSM = "events", t.TempDir(), newRecord()
		a, b := open(c), open(other)
		for _, g := range []*Group{a, b} {
			if err := g.Bootstrap(); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
		if !HasState(c.Dir) || HasState(t.TempDir()) {
			t.Error("HasState is wrong")
		}
	})
}

func TestConfigNamesEveryProblem(t *testing.T) {
	t.Parallel()
	var c Config
	err := c.Validate()
	if err == nil {
		t.Fatal("an empty configuration is accepted")
	}
	for _, field := range []string{"Name", "Dir", "ID", "Advertise", "FSM", "Mux", "Exit", "Servers", "Timings.Lease", "Proposals", "StallMax"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
	timings := DefaultTimings()
	timings.Lease, timings.Election = time.Second, 100*time.Millisecond
	if err := timings.validate(); err == nil {
		t.Error("a lease above the heartbeat timeout is accepted")
	}
	disk := DefaultDisk()
	disk.Low = -1
	if err := disk.validate(); err == nil {
		t.Error("a negative watermark is accepted")
	}
}
