package blob

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Directories under Config.Dir.
const (
	objectsDir    = "objects"    // the blobs, in 256 directories by first byte
	stagingDir    = "staging"    // files being written; swept by Open
	quarantineDir = "quarantine" // what did not match its name, for a person to look at
)

// Store is one node's part of the cluster's blobs. It is safe for concurrent
// use, and serves from Open until Close; Run adds the upkeep.
type Store struct {
	cfg     Config
	fs      FS
	log     zerolog.Logger
	metrics *metrics
	flights flights
	kicked  chan struct{}

	mu sync.Mutex
	// entries holds every blob in objectsDir.
	entries map[Digest]*entry
	// handles orders the entries that have a descriptor, latest used first.
	handles *list.List
	// receives holds the blobs that other nodes are sending here.
	receives map[Digest]*receive
	// silent holds since when each absent node has been away.
	silent map[string]time.Time
	// failing holds the digests whose repair failed last time, to log it once.
	failing map[Digest]bool
	closed  bool
}

// entry is one local blob. Store.mu guards it.
type entry struct {
	size int64
	// verified says that this process hashed the file that id names.
	verified bool
	id       fileID
	// handle is nil until verified, and again after the cache let it go.
	handle *os.File
	place  *list.Element
	// unnamed is when a collection first found that nothing names the blob; zero
	// while something does.
	unnamed time.Time
}

// Open prepares the directory, sweeps what a crash left half written, and
// indexes what is there. Nothing is read or verified yet.
func Open(cfg Config) (*Store, error) {
	if cfg.FS == nil {
		cfg.FS = Disk{}
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure blob store: %w", err)
	}
	s := &Store{
		cfg:      cfg,
		fs:       cfg.FS,
		log:      cfg.Logger.With().Str("component", "blob").Logger(),
		kicked:   make(chan struct{}, 1),
		entries:  map[Digest]*entry{},
		handles:  list.New(),
		receives: map[Digest]*receive{},
		silent:   map[string]time.Time{},
		failing:  map[Digest]bool{},
	}
	s.flights.init()
	for _, dir := range []string{objectsDir, stagingDir, quarantineDir} {
		if err := s.fs.MkdirAll(s.dir(dir)); err != nil {
			return nil, fmt.Errorf("open blob store: %w", err)
		}
	}
	if err := s.fs.SyncDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if err := errors.Join(s.sweep(), s.index()); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Registerer, s); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	return s, nil
}

// Close ends fetches and receives and closes every descriptor that the store
// kept. Descriptors that Open handed out stay valid. It may be called twice.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	receives := s.receives
	s.receives = map[Digest]*receive{}
	s.mu.Unlock()

	s.flights.close()
	for _, rx := range receives {
		rx.abandon()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		s.dropHandleLocked(e)
	}
}

// Run repairs, collects and scrubs until ctx ends, then closes the store.
func (s *Store) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { s.repairLoop(ctx) })
	tasks.Go(func() { s.collectLoop(ctx) })
	tasks.Go(func() { s.scrubLoop(ctx) })
	tasks.Wait()
	s.Close()
	return nil
}

// sweep removes the staging files of an earlier life.
func (s *Store) sweep() error {
	left, err := s.fs.ReadDir(s.dir(stagingDir))
	if err != nil {
		return err
	}
	for _, file := range left {
		if err := s.fs.Remove(filepath.Join(s.dir(stagingDir), file.Name())); err != nil {
			return err
		}
	}
	return nil
}

// index enters every file whose place and name say that it is a blob.
func (s *Store) index() error {
	shards, err := s.fs.ReadDir(s.dir(objectsDir))
	if err != nil {
		return err
	}
	for _, shard := range shards {
		files, err := s.fs.ReadDir(filepath.Join(s.dir(objectsDir), shard.Name()))
		if err != nil {
			return err
		}
		for _, file := range files {
			d, ok := parseHex(file.Name())
			info, err := file.Info()
			if !ok || err != nil || !info.Mode().IsRegular() || filepath.Dir(s.path(d)) != filepath.Join(s.dir(objectsDir), shard.Name()) {
				s.log.Warn().Str("file", file.Name()).Msg("ignored a file that is no blob")
				continue
			}
			s.entries[d] = &entry{size: info.Size()}
		}
	}
	return nil
}

// Kick makes a running store look at once for blobs that it should own. Call it
// when the cluster names a new digest or the members change.
func (s *Store) Kick() {
	select {
	case s.kicked <- struct{}{}:
	default: // one look is already due
	}
}

// Len returns the number of blobs on this node and the sum of their sizes.
func (s *Store) Len() (count int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		bytes += e.size
	}
	return len(s.entries), bytes
}

func (s *Store) dir(name string) string { return filepath.Join(s.cfg.Dir, name) }

// path is where d lies. Two levels keep directories small.
func (s *Store) path(d Digest) string {
	name := d.hex()
	return filepath.Join(s.cfg.Dir, objectsDir, name[:2], name)
}
