package usage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/internal/clock"
)

func sample(fn string) Sample {
	return Sample{
		App: "default", Function: fn, Billed: 20 * time.Millisecond, CPU: 5 * time.Millisecond,
		Memory: 128 << 20, BytesIn: 10, BytesOut: 20, Cold: true, Init: 3 * time.Millisecond,
	}
}

func TestMeterAddsUpFromManyGoroutines(t *testing.T) {
	t.Parallel()
	m := NewMeter()
	now := time.Unix(7200, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Add(sample("a"), now)
				s := sample("b")
				s.Failed = true
				m.Add(s, now)
			}
		})
	}
	wg.Wait()
	want := []Row{
		{App: "default", Function: "a", Hour: 7200, Invocations: 800, BilledMS: 16000, CPUMS: 4000, MemoryMiBMS: 128 * 16000, BytesIn: 8000, BytesOut: 16000, ColdStarts: 800, InitMS: 2400},
		{App: "default", Function: "b", Hour: 7200, Invocations: 800, Errors: 800, BilledMS: 16000, CPUMS: 4000, MemoryMiBMS: 128 * 16000, BytesIn: 8000, BytesOut: 16000, ColdStarts: 800, InitMS: 2400},
	}
	if diff := cmp.Diff(want, m.Rows(), cmpopts.SortSlices(func(a, b Row) bool { return a.Function < b.Function })); diff != "" {
		t.Error(diff)
	}
	m.Drop(7200)
	if rows := m.Rows(); len(rows) != 0 {
		t.Errorf("dropped hour still has rows %v", rows)
	}
}

// ledger is a cluster that commits hours idempotently.
type ledger struct {
	mu    sync.Mutex
	fail  error
	hours map[[2]int64]Hour
	calls int
}

func (l *ledger) commit(_ context.Context, h Hour) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.fail != nil {
		return l.fail
	}
	if l.hours == nil {
		l.hours = map[[2]int64]Hour{}
	}
	l.hours[[2]int64{int64(h.Boot), h.Start}] = h
	return nil
}

func (l *ledger) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func (l *ledger) total() (n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hours {
		for _, r := range h.Rows {
			n += r.Invocations
		}
	}
	return n
}

func openJournal(t *testing.T, dir string, boot uint64, l *ledger) (*Journal, *Meter) {
	t.Helper()
	m := NewMeter()
	j, err := Open(Config{Dir: dir, Boot: boot, Commit: l.commit, Clock: clock.System{}, Logger: zerolog.New(zerolog.NewTestWriter(t))}, m)
	if err != nil {
		t.Fatal(err)
	}
	return j, m
}

func TestClosedHoursAreCommittedOnceTheClusterTakesThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{fail: errors.New("no leader")}
		j, m := openJournal(t, dir, 1, l)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()

		for range 7 {
			m.Add(sample("a"), time.Now())
		}
		time.Sleep(time.Hour + settle + 2*flushEvery)
		synctest.Wait()
		if l.total() != 0 || len(j.Rows("")) != 1 {
			t.Fatalf("while the cluster refuses: committed %d, kept %v", l.total(), j.Rows(""))
		}
		l.set(nil)
		time.Sleep(2 * flushEvery)
		synctest.Wait()
		if l.total() != 7 || len(j.Rows("")) != 0 {
			t.Errorf("after the cluster is back: committed %d, kept %v", l.total(), j.Rows(""))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCrashLosesAtMostTenSeconds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		j, m := openJournal(t, dir, 1, l)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		m.Add(sample("a"), time.Now())
		time.Sleep(flushEvery + time.Second)
		synctest.Wait()

		// What a crash leaves: the journal as it is now, its last line cut.
		raw, err := os.ReadFile(filepath.Join(dir, "usage.journal"))
		if err != nil {
			t.Fatal(err)
		}
		crashed := t.TempDir()
		if err := os.WriteFile(filepath.Join(crashed, "usage.journal"), append(raw, `{"boot":1,"hour":99,"rows":[{"inv`...), 0o600); err != nil {
			t.Fatal(err)
		}
		j2, m2 := openJournal(t, crashed, 2, l)
		m2.Add(sample("a"), time.Now())
		ctx2, cancel2 := context.WithCancel(t.Context())
		done2 := make(chan error, 1)
		go func() { done2 <- j2.Run(ctx2) }()
		time.Sleep(time.Hour + settle + 2*flushEvery)
		synctest.Wait()
		if got := l.hours[[2]int64{1, 99}]; len(got.Rows) != 0 {
			t.Errorf("the cut line was committed: %v", got)
		}
		cancel()
		cancel2()
		if err := errors.Join(<-done, <-done2); err != nil {
			t.Error(err)
		}
		if l.total() != 2 {
			t.Errorf("committed %d invocations, want 2", l.total())
		}
	})
}

func TestJournalStaysSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := &ledger{}
	j, m := openJournal(t, dir, 1, l)
	now := time.Now()
	for range 200 {
		m.Add(sample("a"), now)
		if err := j.flush(); err != nil {
			t.Fatal(err)
		}
	}
	j.size = compactAt + 1
	if err := j.flush(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() > 1000 || st.Size() != j.size {
		t.Errorf("journal has %d bytes after a rewrite, believed %d", st.Size(), j.size)
	}
}

func BenchmarkAdd(b *testing.B) {
	m := NewMeter()
	now := time.Now()
	s := sample("a")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Add(s, now)
		}
	})
}
