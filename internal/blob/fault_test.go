package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

var errCrash = errors.New("the machine is off")

// faultFS is a disk that fails. It counts the operations that change something.
type faultFS struct {
	Disk
	mu  sync.Mutex
	ops int
	// failAt is the operation that fails with err; 0 for none.
	failAt int
	err    error
	// crash makes every later operation fail too, as after a power cut.
	crash bool
	free  int64
	// unsynced holds the files whose bytes are not on the disk, renamed the names
	// that are not: new name to old.
	unsynced map[string]bool
	renamed  map[string]string
}

func newFaultFS() *faultFS {
	return &faultFS{free: 1 << 40, unsynced: map[string]bool{}, renamed: map[string]string{}}
}

// step counts an operation and says how it goes.
func (f *faultFS) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops++
	if f.failAt > 0 && (f.ops == f.failAt || (f.crash && f.ops > f.failAt)) {
		return f.err
	}
	return nil
}

// fail makes the n-th operation from now on fail.
func (f *faultFS) fail(n int, err error, crash bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.failAt, f.err, f.crash = 0, n, err, crash
}

func (f *faultFS) MkdirAll(dir string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.Disk.MkdirAll(dir)
}

func (f *faultFS) Create(dir string) (File, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	file, err := f.Disk.Create(dir)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.unsynced[file.Name()] = true
	f.mu.Unlock()
	return &faultFile{File: file, fs: f}, nil
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.mu.Lock()
	f.renamed[to] = from
	if f.unsynced[from] {
		f.unsynced[to] = true
	}
	f.mu.Unlock()
	return f.Disk.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.Disk.Remove(name)
}

func (f *faultFS) SyncDir(dir string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.mu.Lock()
	for to := range f.renamed {
		if filepath.Dir(to) == dir {
			delete(f.renamed, to)
		}
	}
	f.mu.Unlock()
	return f.Disk.SyncDir(dir)
}

func (f *faultFS) Free(string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.free, nil
}

// powerCut does to the disk what it may do to what was not synced: bytes are
// half there, and names are, if undo is set, the old ones.
func (f *faultFS) powerCut(t *testing.T, undo bool) {
	t.Helper()
	for name := range f.unsynced {
		if info, err := os.Stat(name); err == nil {
			if err := errors.Join(os.Chmod(name, 0o600), os.Truncate(name, info.Size()/2)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for to, from := range f.renamed {
		if undo {
			_ = os.Rename(to, from)
		}
	}
}

type faultFile struct {
	File
	fs *faultFS
}

// Write takes half of the bytes when it fails.
func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultFile) Sync() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	f.fs.mu.Lock()
	delete(f.fs.unsynced, f.Name())
	f.fs.mu.Unlock()
	return f.File.Sync()
}

func (f *faultFile) Chmod(mode fs.FileMode) error {
	if err := f.fs.step(); err != nil {
		return err
	}
	return f.File.Chmod(mode)
}

// writers are the two ways in which a blob gets onto a disk.
var writers = map[string]func(ctx context.Context, s *Store, data []byte) error{
	"put": func(ctx context.Context, s *Store, data []byte) error {
		_, _, err := s.Put(ctx, bytes.NewReader(data))
		return err
	},
	"receive": func(ctx context.Context, s *Store, data []byte) error {
		for offset := 0; ; {
			end := min(offset+100, len(data))
			next, err := s.ServePut(ctx, Chunk{Digest: Sum(data), Size: int64(len(data)), Offset: int64(offset), Data: data[offset:end]})
			if err != nil || next == int64(len(data)) {
				return err
			}
			offset = int(next)
		}
	},
}

// opsMax is more operations than one write takes.
const opsMax = 40

// TestCrashAtEveryOperation cuts the power at each operation of a write. What
// was reported as durable is there afterwards; whatever is there is whole.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	for name, write := range writers {
		for _, undo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/undo=%v", name, undo), func(t *testing.T) {
				t.Parallel()
				completed := false
				for at := 1; at <= opsMax; at++ {
					completed = crashOnce(t, write, at, undo) || completed
				}
				if !completed {
					t.Errorf("no write ended within %d operations", opsMax)
				}
			})
		}
	}
}

// crashOnce reports whether the write was over before the crash.
func crashOnce(t *testing.T, write func(context.Context, *Store, []byte) error, at int, undo bool) bool {
	t.Helper()
	c := newCluster(t, "a")
	disk := newFaultFS()
	s := c.open("a", func(cfg *Config) { cfg.FS = disk })
	data := content(1, 300)
	disk.fail(at, errCrash, true)
	err := write(t.Context(), s, data)
	durable := err == nil
	if !durable && !errors.Is(err, errCrash) {
		t.Fatalf("operation %d: %v", at, err)
	}
	s.Close()
	disk.powerCut(t, undo)

	s = c.open("a")
	if n := c.staged("a"); n != 0 {
		t.Fatalf("operation %d: %d staging files after the restart", at, n)
	}
	f, err := s.Open(t.Context(), Sum(data)) // verifies
	switch {
	case err == nil:
		_ = f.Close()
	case durable:
		t.Fatalf("operation %d: durable, and gone: %v", at, err)
	case !errors.Is(err, ErrNotFound):
		t.Fatalf("operation %d: %v", at, err)
	case errors.Is(err, ErrMismatch):
		t.Fatalf("operation %d: half visible: %v", at, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(c.dirs["a"], quarantineDir)); len(entries) != 0 {
		t.Fatalf("operation %d: the blob was half visible", at)
	}
	if err := write(t.Context(), s, data); err != nil {
		t.Fatalf("operation %d: again: %v", at, err)
	}
	mustRead(t, s, Sum(data), data)
	return durable
}

// TestFullDiskAtEveryOperation runs out of space at each operation of a write.
// The write says so and leaves nothing, and works when there is room.
func TestFullDiskAtEveryOperation(t *testing.T) {
	t.Parallel()
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failures := 0
			for at := 1; at <= opsMax; at++ {
				c := newCluster(t, "a")
				disk := newFaultFS()
				s := c.open("a", func(cfg *Config) { cfg.FS = disk })
				data := content(1, 300)
				disk.fail(at, full, false)
				err := write(t.Context(), s, data)
				if err != nil {
					failures++
					if !errors.Is(err, ErrNoSpace) {
						t.Fatalf("operation %d: %v", at, err)
					}
					if n := c.staged("a"); n != 0 {
						t.Fatalf("operation %d: %d staging files are left", at, n)
					}
					if n, _ := s.Len(); n != 0 {
						t.Fatalf("operation %d: a blob is there", at)
					}
				}
				disk.fail(0, nil, false)
				if err := write(t.Context(), s, data); err != nil {
					t.Fatalf("operation %d: with room again: %v", at, err)
				}
				mustRead(t, s, Sum(data), data)
			}
			if failures < 5 {
				t.Errorf("only %d operations failed", failures)
			}
		})
	}
}

func TestBlobsLeaveSpaceToOthers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	disk := newFaultFS()
	s := c.open("a", func(cfg *Config) { cfg.FS, cfg.FreeMin = disk, 1000 })
	data := content(1, 300)
	disk.free = 900
	if _, _, err := s.Put(t.Context(), bytes.NewReader(data)); !errors.Is(err, ErrNoSpace) {
		t.Errorf("put: %v", err)
	}
	disk.free = 1200
	if _, err := s.ServePut(t.Context(), Chunk{Digest: Sum(data), Size: 300, Data: data}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("receive: %v", err)
	}
	_, _, err := c.stores["b"].Put(t.Context(), bytes.NewReader(data))
	if !errors.Is(err, ErrNotDurable) || !errors.Is(err, ErrNoSpace) {
		t.Errorf("put with a full owner: %v", err)
	}
	disk.free = 1 << 20
	mustPut(t, s, data)
	if n := c.staged("a"); n != 0 {
		t.Errorf("%d staging files are left", n)
	}
}

func TestUnreadableFileIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	data := content(1, 300)
	d := mustPut(t, c.stores["a"], data)
	path := c.stores["a"].path(d)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	// A directory in its place cannot be read: worse than wrong bytes.
	if n, err := c.stores["a"].Scrub(t.Context()); err != nil || n != 1 {
		t.Errorf("scrub found %d, %v", n, err)
	}
	mustRead(t, c.stores["a"], d, data)
	c.open("a")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustRead(t, c.stores["a"], d, data) // deleted behind its back
}
