package group

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// LogStore is the store of the log and of the term and vote. One file holds both.
type LogStore interface {
	raft.LogStore
	raft.StableStore
}

const (
	logFile     = "raft.db"
	reserveFile = "reserve"
	// snapshotsKept is two, so that a reader of the older one is not cut off by
	// the next.
	snapshotsKept = 2
	// compactAbove and compactFree say when the file is rewritten at start: it
	// never shrinks by itself, and opening reads all of its free pages.
	compactAbove = 64 << 20
	compactFree  = 0.5
)

// boltOptions are the options of every opening of the log. The freelist is kept
// in memory only: writing it cost more than the entries themselves after a burst.
// Opening then scans the file, which the bounds on the log keep short.
func boltOptions() *bbolt.Options {
	return &bbolt.Options{
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		// Another process holds the lock: say so instead of waiting.
		Timeout: 2 * time.Second,
	}
}

// openLog opens the log store, rewriting its file first if most of it is empty.
func openLog(dir string) (*raftboltdb.BoltStore, error) {
	path := filepath.Join(dir, logFile)
	if err := compactLog(path, compactAbove); err != nil {
		return nil, fmt.Errorf("compact log store: %w", err)
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions()})
	if err != nil {
		return nil, fmt.Errorf("open log store %s: %w", path, err)
	}
	return store, nil
}

// compactLog rewrites a mostly empty file above a size. The new one replaces the old one only
// when it is whole and synced. No room for it is no error: the old one serves.
func compactLog(path string, above int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() < above {
		return nil
	}
	if err != nil {
		return err
	}
	src, err := bbolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return err
	}
	defer src.Close()
	stats := src.Stats()
	free := float64(stats.FreePageN) * float64(src.Info().PageSize)
	if free < compactFree*float64(info.Size()) {
		return nil
	}
	tmp := path + ".compact"
	if err := rewrite(tmp, src); err != nil {
		_ = os.Remove(tmp)
		if isFull(err) {
			return nil
		}
		return err
	}
	if err := src.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// rewrite copies what is alive into a new, synced file.
func rewrite(tmp string, src *bbolt.DB) error {
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dst, err := bbolt.Open(tmp, 0o600, boltOptions())
	if err != nil {
		return err
	}
	// One transaction per 4 MiB.
	if err := bbolt.Compact(dst, src, 4<<20); err != nil {
		return errors.Join(err, dst.Close())
	}
	return errors.Join(dst.Sync(), dst.Close())
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// snapshots is Raft's snapshot store in files; what it opens tells its index.
type snapshots struct {
	*raft.FileSnapshotStore
}

// openSnapshots makes the directory if needed.
func openSnapshots(dir string, logger hclog.Logger) (snapshots, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return snapshots{}, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	return snapshots{store}, nil
}

// snapshotReader is an open snapshot that knows its index.
type snapshotReader struct {
	io.ReadCloser
	index Index
}

// Open implements raft.SnapshotStore.
func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &snapshotReader{ReadCloser: r, index: Index(meta.Index)}, nil
}

// newest returns the newest snapshot's description, or nil.
func (s snapshots) newest() (*raft.SnapshotMeta, error) {
	all, err := s.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all[0], nil
}

// checkStored refuses a directory that Raft would open and then trip over: an
// unreadable newest snapshot, for which it would take an older one, or a gap
// between snapshot and log, where it would panic.
func checkStored(logs raft.LogStore, snaps snapshots) error {
	var covered uint64
	meta, err := snaps.newest()
	if err != nil {
		return err
	}
	if meta != nil {
		// Opening checks the checksum of the whole file.
		_, r, err := snaps.Open(meta.ID)
		if err != nil {
			return fmt.Errorf("%w: read snapshot %s: %w", ErrDamaged, meta.ID, err)
		}
		_ = r.Close()
		covered = meta.Index
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("%w: read first log index: %w", ErrDamaged, err)
	}
	if first > covered+1 {
		return fmt.Errorf("%w: the log starts at %d but the newest snapshot ends at %d",
			ErrDamaged, first, covered)
	}
	return nil
}
