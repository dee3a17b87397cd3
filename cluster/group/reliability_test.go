package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// The tests of this file are named after the rows of the reliability table. Their
// counts are reduced; the table's own are run with COVEY_SOAK=1.

func TestR1OnlyBootstrapFounds(t *testing.T) {
	t.Parallel()
	for range times(1, 100) {
		func() {
			w := &world{t: t, ca: newAuthority(t), cut: map[[2]string]bool{}, conns: map[*link]struct{}{}}
			defer w.close()
			for range 5 {
				w.add().start()
			}
			for _, nd := range w.nodes {
				if id, _ := nd.group.Leader(); id != "" || nd.group.Stats().Term != 0 {
					t.Errorf("%s found a group by itself, led by %s", nd.id, id)
				}
			}
			if err := w.nodes[0].group.Bootstrap(); err != nil {
				t.Fatal(err)
			}
			if err := w.nodes[0].group.Bootstrap(); !errors.Is(err, ErrBootstrapped) {
				t.Errorf("second bootstrap: %v", err)
			}
			eventually(t, time.Minute, "one group of five", func() error {
				for _, nd := range w.nodes {
					if id, _ := nd.group.Leader(); id == "" {
						return fmt.Errorf("%s knows no leader", nd.id)
					}
				}
				return nil
			})
		}()
	}
}

func TestR2RebootOfAllNodes(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, onDisk)
	for i := range times(2, 50) {
		w.propose(fmt.Sprintf("boot=%d", i))
		for _, nd := range w.nodes {
			nd.kill()
		}
		start := time.Now()
		for _, nd := range w.nodes {
			nd.start()
		}
		w.propose("whole=1")
		w.agree(w.nodes...)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("reboot %d: whole only after %v", i, took)
		}
		if got := w.nodes[0].fsm.get("boot"); got != strconv.Itoa(i) {
			t.Fatalf("reboot %d: boot=%q", i, got)
		}
	}
}

func TestR3StaleLeaderServesNoReads(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	for range times(1, 20) {
		history := contend(t, w, func() {
			old := w.leader()
			w.isolate(old)
			w.propose("x=cut")
			w.heal()
		})
		if !porcupine.CheckOperations(registerModel, history) {
			t.Fatalf("a history of %d operations is not linearizable", len(history))
		}
	}
}

// registerModel is one register; an operation whose outcome is unknown has an
// output of nil and may have happened at any later time.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(string); in != "" {
			return true, in
		}
		return output.(string) == state.(string), state
	},
}

// contend writes and reads the register x through whoever believes to lead, while
// disturb runs, and returns what happened.
func contend(t *testing.T, w *world, disturb func()) []porcupine.Operation {
	t.Helper()
	var (
		mu      sync.Mutex
		history []porcupine.Operation
		wg      sync.WaitGroup
		stop    = make(chan struct{})
		begin   = time.Now()
		unknown = int64(1 << 62)
	)
	now := func() int64 { return time.Since(begin).Nanoseconds() }
	// Every history starts from a known value.
	history = append(history, porcupine.Operation{Input: "first", Call: now(), Return: now() + 1})
	w.propose("x=first")
	history[0].Return = now()

	client := func(id int, nd *node) {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			op := porcupine.Operation{ClientId: id, Call: now()}
			if n%3 == 0 {
				value := fmt.Sprintf("%d-%d", id, n)
				op.Input = value
				_, _, err := nd.group.Propose(ctx, []byte("x="+value))
				op.Return = now()
				if errors.Is(err, ErrOutcomeUnknown) {
					// Its client is busy for ever, so the next operation is another's.
					op.Return, err = unknown, nil
					id += 100
				}
				if err == nil {
					mu.Lock()
					history = append(history, op)
					mu.Unlock()
				}
			} else if _, err := nd.group.ReadIndex(ctx); err == nil {
				op.Input, op.Output = "", nd.fsm.get("x")
				op.Return = now()
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
			cancel()
		}
	}
	for i, nd := range w.nodes {
		wg.Go(func() { client(i+1, nd) })
	}
	// The disturber's own write is part of the history, at an unknown moment.
	call := now()
	disturb()
	history0 := porcupine.Operation{ClientId: 50, Input: "cut", Call: call, Return: now()}
	close(stop)
	wg.Wait()
	return append(history, history0)
}

func TestR4LeaderWithHangingDiskIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFaults()
	w := newVoters(t, 3, func(c *Config) {
		f.tune(c)
		c.Disk.StallMax = time.Second
	})
	w.propose("a=1")
	old := w.leader()
	release := f.of(old).hang()
	defer release()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	proposed := make(chan error, 1)
	go func() {
		_, _, err := old.group.Propose(ctx, []byte("b=1"))
		proposed <- err
	}()
	select {
	case err := <-old.exits:
		t.Log(err)
	case <-time.After(time.Minute):
		t.Fatal("the leader lives on")
	}
	// The process would be gone now, so no client asks it any more.
	w.isolate(old)
	all := w.nodes
	w.nodes = w.others(old)
	w.propose("c=1")
	w.nodes = all
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("a new leader only after %v", took)
	}
	release()
	if err := <-proposed; !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("the hanging proposal: %v", err)
	}
	w.heal()
	w.agree(w.nodes...)
}

func TestR5FullDisksRecoverWithoutRestart(t *testing.T) {
	t.Parallel()
	f := newFaults()
	w := newVoters(t, 3, f.tune)
	w.propose("a=1")
	for _, nd := range w.nodes {
		f.of(nd).setFull(true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := w.leader().group.Propose(ctx, []byte("b=1")); err == nil {
		t.Error("a full disk accepted an entry")
	}
	for _, nd := range w.nodes {
		f.of(nd).setFull(false)
	}
	w.propose("c=1")
	w.agree(w.nodes...)
	for _, nd := range w.nodes {
		select {
		case err := <-nd.exits:
			t.Errorf("%s ended: %v", nd.id, err)
		default:
		}
	}
}

func TestR5LowDiskRefusesClientsOnly(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(10 << 20)
	w := newWorld(t, 1, func(c *Config) {
		c.Disk.Low = 100 << 20
		c.Disk.Free = func(string) (int64, error) { return free.Load(), nil }
	})
	g := w.nodes[0].group
	propose := func() error { _, _, err := g.Propose(t.Context(), []byte("a=1")); return err }
	eventually(t, time.Minute, "refusal", func() error {
		if err := propose(); !errors.Is(err, ErrDiskLow) {
			return fmt.Errorf("error %w", err)
		}
		return nil
	})
	if _, _, err := g.ProposeSystem(t.Context(), []byte("b=1")); err != nil {
		t.Errorf("the cluster's own write: %v", err)
	}
	free.Store(1 << 30)
	eventually(t, time.Minute, "acceptance", propose)
}

// burst fills a log store with n bytes in batches and truncates it.
func burst(t *testing.T, s raft.LogStore, bytes int) {
	t.Helper()
	const size = 256 << 10
	next := uint64(1)
	for done := 0; done < bytes; done += size * 4 {
		var logs []*raft.Log
		for range 4 {
			logs = append(logs, &raft.Log{Index: next, Data: make([]byte, size)})
			next++
		}
		if err := s.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(1, next-2); err != nil {
		t.Fatal(err)
	}
}

func TestR6CommitStaysCheapAfterBurst(t *testing.T) {
	t.Parallel()
	store, err := openLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	perCommit := func(from uint64) int64 {
		before := store.Stats()
		for i := range uint64(50) {
			if err := store.StoreLog(&raft.Log{Index: from + i, Data: make([]byte, 100)}); err != nil {
				t.Fatal(err)
			}
		}
		after := store.Stats()
		return (after.TxStats.GetPageAlloc() - before.TxStats.GetPageAlloc()) / 50
	}
	// Both bursts leave one large entry behind, as trailing logs do.
	burst(t, store, 2<<20)
	baseline := perCommit(1 << 30)
	if err := store.DeleteRange(1, 1<<31); err != nil {
		t.Fatal(err)
	}
	burst(t, store, times(8<<20, 1<<30))
	if got := perCommit(1 << 40); got > 2*baseline {
		t.Errorf("a commit writes %d bytes after the burst, %d before", got, baseline)
	}
}

func TestR7LargeLogOpensFast(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, logFile), BoltOptions: boltOptions(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	burst(t, store, times(12<<20, 1<<30))
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	// The copy was never closed, as after kill -9.
	if err := copyFile(filepath.Join(dir, logFile), filepath.Join(copied, logFile)); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := compactLog(filepath.Join(copied, logFile), int64(times(4<<20, compactAbove))); err != nil {
		t.Fatal(err)
	}
	reopened, err := openLog(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer reopened.Close()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("opened in %v", took)
	}
	info, err := os.Stat(filepath.Join(copied, logFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 2<<20 {
		t.Errorf("the file of one entry still has %d bytes", info.Size())
	}
	if last, err := reopened.LastIndex(); err != nil || last == 0 {
		t.Errorf("last entry %d, %v", last, err)
	}
	// A half-written compaction from an earlier start is no obstacle.
	if err := os.WriteFile(filepath.Join(copied, logFile+".compact"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rewrite(filepath.Join(copied, logFile+".compact"), openBolt(t, filepath.Join(dir, logFile))); err != nil {
		t.Error(err)
	}
}

func openBolt(t *testing.T, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, boltOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestR8FollowerFarBehindCatchesUpUnderLoad(t *testing.T) {
	t.Parallel()
	const trailing = 20
	w := newVoters(t, 3, func(c *Config) {
		c.Limits.SnapshotEntries, c.Limits.TrailingEntries = trailing, trailing
	})
	behind := w.others(w.leader())[0]
	for range times(1, 5) {
		behind.kill()
		for i := range 10 * trailing {
			w.propose(fmt.Sprintf("k%d=1", i%7))
		}
		if err := w.leader().group.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		behind.start()
		stop, load := make(chan struct{}), sync.WaitGroup{}
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.propose("load=1")
				}
			}
		})
		eventually(t, time.Minute, "the follower to catch up", func() error {
			if a, b := behind.group.Applied(), w.leader().group.Applied(); a+5 < b {
				return fmt.Errorf("applied %d of %d", a, b)
			}
			return nil
		})
		close(stop)
		load.Wait()
	}
	w.agree(w.nodes...)
	if behind.group.Stats().Snapshot == 0 {
		t.Error("no snapshot was installed")
	}
}

func TestR8LogIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, func(c *Config) {
		onDisk(c)
		c.Limits.SnapshotBytes, c.Limits.TrailingBytes = 200<<10, 50<<10
	})
	g := w.nodes[0].group
	for range 30 {
		if _, _, err := g.Propose(t.Context(), make([]byte, 20<<10)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, "compaction", func() error {
		first, err := g.store.FirstIndex()
		if last := g.raft.LastIndex(); err != nil || last-first > 14 {
			return fmt.Errorf("entries %d to %d are kept, %w", first, last, err)
		}
		return nil
	})
}

func TestR8UnreadableSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, onDisk)
	nd := w.nodes[0]
	w.propose("a=1")
	if err := nd.group.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	nd.kill()
	files, err := filepath.Glob(filepath.Join(nd.dir, "snapshots", "*", "state.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("snapshots %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := nd.tryStart(); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened with a damaged snapshot: %v", err)
	}
	// And a missing one leaves a gap before the log.
	if err := os.RemoveAll(filepath.Join(nd.dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	store, err := openLog(nd.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.DeleteRange(1, 1), store.Close()); err != nil {
		t.Fatal(err)
	}
	if err := nd.tryStart(); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened with a gap: %v", err)
	}
}

func TestR9LargeStateIsInstalledWhileClientsRetry(t *testing.T) {
	t.Parallel()
	from := newWorld(t, 1, nil)
	from.propose("kept=yes")
	from.nodes[0].fsm.mu.Lock()
	from.nodes[0].fsm.ballast = int64(times(4<<20, 1<<30))
	from.nodes[0].fsm.mu.Unlock()
	source := from.nodes[0].group
	if err := source.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	meta, err := source.snapshots.newest()
	if err != nil {
		t.Fatal(err)
	}

	w := newVoters(t, 3, func(c *Config) { c.Timings = DefaultTimings() })
	w.propose("gone=1")
	stop, clients := make(chan struct{}), sync.WaitGroup{}
	for i := range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.propose(fmt.Sprintf("client%d=1", i))
				}
			}
		})
	}
	// A machine that is too busy to answer heartbeats may lose its leadership on the
	// way; the operator's command then repeats the installation.
	eventually(t, 10*time.Minute, "installation", func() error {
		_, backup, err := source.OpenSnapshot(t.Context(), false)
		if err != nil {
			return err
		}
		defer backup.Close()
		err = w.leader().group.Install(t.Context(), meta.Size, backup)
		if err != nil && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
			t.Error(err)
		}
		return err
	})
	close(stop)
	clients.Wait()
	w.propose("after=1")
	w.agree(w.nodes...)
	for _, nd := range w.nodes {
		if nd.fsm.get("kept") != "yes" || nd.fsm.get("gone") != "" || nd.fsm.get("after") != "1" {
			t.Errorf("%s has %v", nd.id, nd.fsm.read().Values)
		}
	}
	// A restart finds the state and the hole in the log before it.
	w.nodes[2].kill()
	w.nodes[2].start()
	w.agree(w.nodes...)
}

func TestR10RecoverWithOneOfThreeDisks(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, onDisk)
	for i := range 10 {
		w.propose(fmt.Sprintf("k%d=v", i))
	}
	if err := w.nodes[0].group.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.propose("last=1")
	w.agree(w.nodes...)
	for _, nd := range w.nodes {
		nd.kill()
	}
	left := w.nodes[0]
	cfg := RecoverConfig{
		Dir: left.dir, ID: left.id, Advertise: left.addr, FSM: newRecord(),
		Voters: []Server{{ID: left.id, Addr: left.addr}},
		Backup: filepath.Join(t.TempDir(), "backup"), DryRun: true,
	}
	plan, err := Recover(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Done || plan.Replayed < 1 || len(plan.Old) != 3 || len(plan.New) != 1 || plan.Snapshot == 0 || plan.Last <= plan.Snapshot {
		t.Errorf("dry run: %+v", plan)
	}
	if _, err := os.Stat(cfg.Backup); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run made a backup: %v", err)
	}
	cfg.DryRun = false
	done, err := Recover(t.Context(), cfg)
	if err != nil || !done.Done {
		t.Fatalf("recover: %+v, %v", done, err)
	}
	if !HasState(cfg.Backup) {
		t.Error("the backup holds no group")
	}
	if _, err := Recover(t.Context(), cfg); !errors.Is(err, os.ErrExist) {
		t.Errorf("the backup was overwritten: %v", err)
	}
	for _, nd := range w.nodes[1:] {
		w.forget(nd.id)
	}
	w.nodes = w.nodes[:1]
	left.start()
	w.propose("alive=1")
	for _, key := range []string{"k9", "last", "alive"} {
		if left.fsm.get(key) == "" {
			t.Errorf("%s is lost", key)
		}
	}
}

func TestR10RecoverRefusesNonsense(t *testing.T) {
	t.Parallel()
	me := Server{ID: "a", Addr: "127.0.0.1:1"}
	for name, cfg := range map[string]RecoverConfig{
		"nothing":            {},
		"not among voters":   {Dir: "x", ID: "b", DryRun: true, Voters: []Server{me}},
		"even voters":        {Dir: "x", ID: "a", DryRun: true, Voters: []Server{me, {ID: "b", Addr: "y"}}},
		"without backup":     {Dir: "x", ID: "a", FSM: newRecord(), Voters: []Server{me}},
		"voter without addr": {Dir: "x", ID: "a", DryRun: true, Voters: []Server{{ID: "a"}}},
		"no group there":     {Dir: t.TempDir(), ID: "a", DryRun: true, Voters: []Server{me}},
	} {
		if _, err := Recover(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestR12DeadVotersAreReplacedOneByOne(t *testing.T) {
	t.Parallel()
	nodes := times(4, 7)
	w := newWorld(t, nodes, nil)
	voters := votersWanted(nodes)
	w.settle(voters, min(standbysMax, nodes-voters))
	originals := slices.Clone(w.nodes)
	for i, old := range originals {
		w.propose(fmt.Sprintf("round=%d", i))
		fresh := w.add()
		fresh.start()
		old.kill()
		w.propose(fmt.Sprintf("killed=%d", i))
		w.forget(old.id)
		w.nodes = slices.DeleteFunc(w.nodes, func(nd *node) bool { return nd == old })
		w.settle(voters, min(standbysMax, nodes-voters))
	}
	w.propose("end=1")
	members := w.leader().group.Members()
	for _, old := range originals {
		if slices.ContainsFunc(members, func(m Member) bool { return m.ID == old.id }) {
			t.Errorf("%s is still a member", old.id)
		}
	}
	if got := w.leader().fsm.get("round"); got != strconv.Itoa(len(originals)-1) {
		t.Errorf("round=%q", got)
	}
}

// settle waits until so many members have each role.
func (w *world) settle(voters, standbys int) {
	w.t.Helper()
	eventually(w.t, 40*time.Second, "the roles to settle", func() error {
		members := w.leader().group.Members()
		v, s := 0, 0
		for _, m := range members {
			alive := slices.ContainsFunc(w.nodes, func(nd *node) bool { return nd.id == m.ID })
			if m.Role == Voter && alive {
				v++
			} else if alive {
				s++
			}
		}
		if v != voters || s != standbys || v+s != len(members) {
			return fmt.Errorf("members %v", members)
		}
		return nil
	})
}

func TestR17LeadershipFlaps(t *testing.T) {
	t.Parallel()
	var runs, running atomic.Int32
	w := newVoters(t, 3, nil)
	for _, nd := range w.nodes {
		nd.group.LeaderWork(func(ctx context.Context) {
			runs.Add(1)
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
		})
	}
	want := times(4, 200)
	for range want {
		from := w.leader()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := from.group.TransferLeadership(ctx, "")
		cancel()
		if err != nil {
			t.Logf("transfer: %v", err) // raft may give up; the next round tries again
		}
	}
	w.propose("a=1")
	eventually(t, time.Minute, "one work for one leader", func() error {
		if n, total := running.Load(), runs.Load(); n != 1 || int(total) < want/2 {
			return fmt.Errorf("%d running, %d were run", n, total)
		}
		return nil
	})
}

func TestR22OverloadIsRefusedAndCostsNoLeader(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, func(c *Config) { c.Limits.Proposals = 16 })
	w.propose("a=1")
	leader := w.leader()
	term := leader.group.Stats().Term
	var ok, refused atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times(1, 600))*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 48 { // three times the limit
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _, err := leader.group.Propose(t.Context(), []byte("b=1"))
				switch {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, ErrOverloaded):
					refused.Add(1)
					<-time.After(time.Millisecond)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	var system error
	for ctx.Err() == nil && system == nil {
		// The cluster's own writes pass beside the overload.
		_, _, system = leader.group.ProposeSystem(t.Context(), []byte("c=1"))
	}
	wg.Wait()
	if system != nil {
		t.Errorf("the cluster's own write: %v", system)
	}
	if ok.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d accepted, %d refused", ok.Load(), refused.Load())
	}
	if now := w.leader().group.Stats().Term; now != term {
		t.Errorf("term %d became %d", term, now)
	}
	if n := len(leader.group.proposals); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
	w.agree(w.nodes...)
}
