package group

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// watched is a disk watch over a faulty store, with an exit that is counted.
type watched struct {
	*diskWatch
	store *faultyStore
	free  atomic.Int64
	exits chan error
}

func newWatched(t *testing.T, tune func(*DiskConfig)) *watched {
	t.Helper()
	w := &watched{store: newMemStore(), exits: make(chan error, 4)}
	w.free.Store(1 << 30)
	cfg := DefaultDisk()
	cfg.Reserve = 1 << 20
	cfg.Free = func(string) (int64, error) { return w.free.Load(), nil }
	if tune != nil {
		tune(&cfg)
	}
	w.diskWatch = newDiskWatch(w.store, t.TempDir(), cfg, zerolog.Nop(), func(err error) { w.exits <- err })
	w.start()
	t.Cleanup(w.close)
	return w
}

func (w *watched) exited() bool {
	select {
	case <-w.exits:
		return true
	default:
		return false
	}
}

func entry(i uint64) *raft.Log { return &raft.Log{Index: i, Term: 1, Data: []byte("x")} }

func TestR4WatchEndsProcessWhenWriteHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, nil)
		release := w.store.hang()
		done := make(chan error, 1)
		go func() { done <- w.StoreLog(entry(1)) }()
		time.Sleep(5 * time.Second) // of the bubble's clock
		synctest.Wait()
		if w.exited() {
			t.Error("ended before the limit")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !w.exited() {
			t.Error("a hanging write did not end the process")
		}
		release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestR4WatchBearsSlowWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, nil)
		for i := range uint64(5) {
			w.store.stall(4 * time.Second)
			if err := w.StoreLog(entry(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		if w.exited() {
			t.Error("slow writes, each under the limit, ended the process")
		}
	})
}

func TestR4WatchEndsProcessWhenDiskStaysFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, func(c *DiskConfig) { c.Reserve = 0 })
		w.free.Store(0)
		w.store.setFull(true)
		if err := w.StoreLog(entry(1)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("append on a full disk: %v", err)
		}
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if w.exited() {
			t.Error("ended before the limit")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !w.exited() {
			t.Error("a disk that stayed full did not end the process")
		}
	})
}

func TestR5RoomClearsFullness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, func(c *DiskConfig) { c.Reserve = 0 })
		w.free.Store(0)
		w.store.setFull(true)
		if err := w.StoreLog(entry(1)); err == nil {
			t.Fatal("append on a full disk succeeded")
		}
		time.Sleep(20 * time.Second)
		w.free.Store(1 << 30) // somebody made room, and nothing is written
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.exited() {
			t.Error("ended although there was room again")
		}
	})
}

// A term that cannot be stored would make Raft panic, so the write waits.
func TestR5TermWaitsForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, func(c *DiskConfig) { c.Reserve = 0 })
		w.store.setFull(true)
		done := make(chan error, 1)
		go func() { done <- w.SetUint64([]byte("term"), 7) }()
		time.Sleep(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		w.store.setFull(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got, err := w.GetUint64([]byte("term")); err != nil || got != 7 {
			t.Errorf("term is %d, %v", got, err)
		}
	})
}

func TestR5ReserveIsGivenUpAndTakenBack(t *testing.T) {
	t.Parallel()
	w := newWatched(t, nil)
	path := filepath.Join(w.dir, reserveFile)
	exists := func(want bool) {
		t.Helper()
		eventually(t, time.Minute, "the reserve file", func() error {
			info, err := os.Stat(path)
			switch {
			case want && err != nil:
				return err
			case want && info.Size() != 1<<20:
				return errors.New("it has the wrong size")
			case !want && err == nil:
				return errors.New("it exists")
			default:
				return nil
			}
		})
	}
	exists(true)
	w.free.Store(0)
	eventually(t, time.Minute, "the watermark", func() error {
		if !w.low.Load() {
			return errors.New("not low")
		}
		return nil
	})
	w.store.setFull(true)
	// One refusal gives the reserve up, and the retry meets the same full store.
	if err := w.StoreLog(entry(1)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if n := w.store.refused(); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
	exists(false)
	w.store.setFull(false)
	w.free.Store(1 << 30)
	exists(true)
	if w.low.Load() {
		t.Error("still low")
	}
}

func TestReserveHoldsRealBlocks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"allocated", "written"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "f")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if name == "written" {
				err = writeZeros(f, 3<<20+1)
			} else {
				err = reserveBlocks(f, 3<<20+1)
			}
			if err != nil {
				t.Skipf("the file system cannot: %v", err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Blocks*512 < 3<<20 {
				t.Errorf("%d bytes in %d blocks: a hole", info.Size(), st.Blocks)
			}
		})
	}
}

func TestFreeSpaceNamesTheDirectory(t *testing.T) {
	t.Parallel()
	if n, err := freeSpace(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("free space %d, %v", n, err)
	}
	if _, err := freeSpace(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("free space of nothing: %v", err)
	}
}
