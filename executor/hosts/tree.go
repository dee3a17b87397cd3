package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/internal/forks"
)

// keptBytes bounds the unpacked code that no instance uses. Less means that code is
// unpacked again more often, more takes disk from the blob store.
const keptBytes = 2 << 30

// trees are folders of unpacked code. They are emptied when the daemon starts, so
// that what a disk has done to them meanwhile does not matter: the archives are
// verified when they are opened.
type trees struct {
	dir  string
	code func(ctx context.Context, digest string) (*os.File, error)
	log  zerolog.Logger

	work  sync.WaitGroup // unpacking; bounded by unpackTimeout
	mu    sync.Mutex
	all   map[string]*tree // by digest
	clock uint64           // counts releases
}

// unpackTimeout bounds fetching and unpacking an archive. Only a disk that hangs, or
// owners of the code that do not answer, need more.
const unpackTimeout = 5 * time.Minute

// tree is one archive, unpacked.
type tree struct {
	digest string
	path   string
	ready  chan struct{} // closed when size and err are set

	size int64
	err  error

	// Guarded by the mutex of trees.
	holds  int
	used   uint64                   // clock at the last release
	caches map[string]string        // what was prepared, by runtime
	claims map[string]chan struct{} // by runtime, closed when its preparation has ended
}

// newTrees empties dir.
func newTrees(dir string, code func(context.Context, string) (*os.File, error), log zerolog.Logger) (*trees, error) {
	if err := removeAll(dir); err != nil {
		return nil, fmt.Errorf("empty code directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make code directory: %w", err)
	}
	return &trees{dir: dir, code: code, log: log, all: map[string]*tree{}}, nil
}

// removeAll deletes a directory with trees in it, whose folders are read-only.
func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := archive.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// hold returns the tree of a digest, unpacked, for release to give back. Callers that
// want the same one share the work, which goes on when one of them leaves.
func (ts *trees) hold(ctx context.Context, digest string) (*tree, error) {
	if digest == "" || strings.ContainsAny(digest, "/.") {
		return nil, fmt.Errorf("digest %q names no code", digest)
	}
	ts.mu.Lock()
	t := ts.all[digest]
	if t == nil {
		t = &tree{
			digest: digest, path: filepath.Join(ts.dir, digest), ready: make(chan struct{}),
			caches: map[string]string{}, claims: map[string]chan struct{}{},
		}
		ts.all[digest] = t
		t.holds++ // by the work itself: whoever waits for it may leave
		ts.work.Go(func() { ts.fill(context.WithoutCancel(ctx), t) })
	}
	t.holds++
	ts.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
		ts.release(t)
		return nil, fmt.Errorf("wait for code: %w", context.Cause(ctx))
	}
	if t.err != nil {
		ts.release(t)
		return nil, t.err
	}
	return t, nil
}

// fill unpacks, and gives its hold back. A failure is told to everybody who waits, and
// forgotten.
func (ts *trees) fill(ctx context.Context, t *tree) {
	ctx, cancel := context.WithTimeout(ctx, unpackTimeout)
	defer cancel()
	t.size, t.err = ts.unpack(ctx, t)
	if t.err != nil {
		ts.mu.Lock()
		delete(ts.all, t.digest)
		ts.mu.Unlock()
	}
	close(t.ready)
	ts.release(t)
}

func (ts *trees) unpack(ctx context.Context, t *tree) (int64, error) {
	code, err := ts.code(ctx, t.digest)
	if err != nil {
		return 0, fmt.Errorf("open code: %w", err)
	}
	defer code.Close() // read only
	info, err := code.Stat()
	if err != nil {
		return 0, fmt.Errorf("open code: %w", err)
	}
	err = archive.Unpack(ctx, code, info.Size(), t.path, archive.DefaultLimits())
	switch {
	case errors.Is(err, archive.ErrNotZip), errors.Is(err, archive.ErrRefused), errors.Is(err, archive.ErrTooLarge):
		return 0, fmt.Errorf("%w: %w", ErrCode, err)
	case err != nil:
		return 0, fmt.Errorf("unpack code: %w", err)
	}
	size, programs, err := survey(t.path)
	forks.Settle(programs...)
	return size, err
}

// survey adds up the files below dir, and lists those that can be executed.
func survey(dir string) (size int64, programs []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			programs = append(programs, path)
		}
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("measure code: %w", err)
	}
	return size, programs, nil
}

// release gives back what hold returned.
func (ts *trees) release(t *tree) {
	ts.mu.Lock()
	ts.clock++
	t.holds--
	t.used = ts.clock
	ts.mu.Unlock()
	ts.trim()
}

// trim deletes trees that nobody holds, those that were used longest ago first, until
// the rest is within keptBytes.
func (ts *trees) trim() {
	ts.mu.Lock()
	var idle []*tree
	var kept int64
	for _, t := range ts.all {
		if t.holds == 0 {
			idle = append(idle, t)
			kept += t.size
		}
	}
	slices.SortFunc(idle, func(a, b *tree) int { return int(int64(a.used) - int64(b.used)) })
	var gone []string
	for _, t := range idle {
		if kept <= keptBytes {
			break
		}
		kept -= t.size
		delete(ts.all, t.digest)
		// Renamed under the lock, so that the same code can be unpacked anew at once.
		old := t.path + ".old"
		if err := os.Rename(t.path, old); err != nil {
			ts.log.Warn().Str("digest", t.digest).Err(err).Msg("unpacked code not moved away")
			continue
		}
		gone = append(gone, old)
		for _, cache := range t.caches {
			gone = append(gone, cache)
		}
	}
	ts.mu.Unlock()
	for _, path := range gone {
		if err := archive.Remove(path); err != nil {
			ts.log.Warn().Str("path", path).Err(err).Msg("unpacked code not removed")
		}
	}
}

// cache returns the folder that was prepared for a runtime, or "".
func (ts *trees) cache(t *tree, runtime string) string {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return t.caches[runtime]
}

// claim reports whether the caller shall prepare the tree for a runtime, because nobody
// has tried. done is closed when whoever it is has settled. The caller's claim holds
// the tree until then.
func (ts *trees) claim(t *tree, runtime string) (mine bool, done <-chan struct{}) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if claim := t.claims[runtime]; claim != nil {
		return false, claim
	}
	claim := make(chan struct{})
	t.claims[runtime] = claim
	t.holds++
	return true, claim
}

// settle ends a claim. An empty path says that there is no cache, and never will be:
// what failed once will fail again.
func (ts *trees) settle(t *tree, runtime, path string) {
	ts.mu.Lock()
	if path != "" {
		t.caches[runtime] = path
	}
	close(t.claims[runtime])
	ts.mu.Unlock()
	ts.release(t)
}
