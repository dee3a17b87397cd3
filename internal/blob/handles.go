package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Open returns a read-only descriptor of d with an offset of its own, for the
// caller to close. The file has mode 0555, so any user may execute it by the
// descriptor. Bytes that are absent or rotten here are fetched from other
// nodes; callers that want the same blob share one fetch. The error wraps
// ErrNotFound when no reachable node has it.
func (s *Store) Open(ctx context.Context, d Digest) (*os.File, error) {
	return s.open(ctx, d, flightFetch, s.obtain)
}

// openLocal is Open without the fetch.
func (s *Store) openLocal(ctx context.Context, d Digest) (*os.File, error) {
	return s.open(ctx, d, flightVerify, s.verify)
}

// open uses the handle that is kept, after load has made one.
func (s *Store) open(ctx context.Context, d Digest, kind flightKind, load func(context.Context, Digest) error) (*os.File, error) {
	// A handle may be dropped between its loading and our use of it, by the bounded
	// cache or a collection; more than a few times in a row it is not chance.
	for range 4 {
		f, err := s.use(d)
		if f != nil || err != nil {
			return f, err
		}
		err = s.flights.do(ctx, flightKey{d, kind}, func(ctx context.Context) error { return load(ctx, d) })
		if err != nil {
			return nil, fmt.Errorf("open blob %s: %w", d, err)
		}
	}
	return nil, fmt.Errorf("open blob %s: %w", d, ErrNotFound)
}

// use returns a descriptor when one is kept open, and nil when not.
func (s *Store) use(d Digest) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	e := s.entries[d]
	if e == nil || e.handle == nil {
		return nil, nil
	}
	s.handles.MoveToFront(e.place)
	return reopen(e.handle)
}

// obtain verifies the local file, or replaces it by a fetched one.
func (s *Store) obtain(ctx context.Context, d Digest) error {
	err := s.flights.do(ctx, flightKey{d, flightVerify}, func(ctx context.Context) error { return s.verify(ctx, d) })
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) {
		return s.fetch(ctx, d)
	}
	return err
}

// verify leaves an open handle behind, hashing the file unless this process did
// so before and the inode has not changed since. A file that does not match is
// set aside, and the error wraps ErrMismatch.
func (s *Store) verify(ctx context.Context, d Digest) error {
	s.mu.Lock()
	e := s.entries[d]
	if e == nil {
		s.mu.Unlock()
		return ErrNotFound
	}
	known, knownID := e.verified, e.id
	s.mu.Unlock()

	f, err := s.fs.Open(s.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		s.forget(d, e)
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	id, err := identify(f)
	if err == nil && (!known || id != knownID) {
		err = checkFile(ctx, f, d)
	}
	if err != nil {
		_ = f.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.quarantine(d, e, err)
		return fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if !s.keep(d, e, f, id) {
		_ = f.Close()
	}
	return nil
}

// checkFile reads all of r and compares. An unreadable file is as bad as a
// wrong one.
func checkFile(ctx context.Context, r io.Reader, d Digest) error {
	h := sha256.New()
	if err := copyChecked(ctx, h, r); err != nil {
		return fmt.Errorf("read %s: %w", d, err)
	}
	return matches(h, d)
}

// copyChecked copies and looks at ctx between pieces.
func copyChecked(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// matches compares what was hashed with the name it should have.
func matches(h hash.Hash, d Digest) error {
	if got := Digest(h.Sum(nil)); got != d {
		return fmt.Errorf("%w: content is %s", ErrMismatch, got)
	}
	return nil
}

// keep takes f as e's verified handle, and lets the least used one go when there
// are too many. It reports whether it took f.
func (s *Store) keep(d Digest, e *entry, f *os.File, id fileID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.entries[d] != e {
		return false
	}
	s.dropHandleLocked(e)
	e.verified, e.id, e.size = true, id, id.size
	e.handle = f
	e.place = s.handles.PushFront(e)
	for s.handles.Len() > s.cfg.OpenMax {
		oldest, ok := s.handles.Back().Value.(*entry)
		if !ok {
			panic("blob: the handle list holds something else than entries")
		}
		s.dropHandleLocked(oldest)
	}
	return true
}

// dropHandleLocked closes e's descriptor; e stays verified.
func (s *Store) dropHandleLocked(e *entry) {
	if e.handle == nil {
		return
	}
	s.handles.Remove(e.place)
	_ = e.handle.Close() // read only: nothing can be lost
	e.handle, e.place = nil, nil
}

// forget drops an entry whose file is gone. It does nothing when the entry was
// replaced meanwhile.
func (s *Store) forget(d Digest, e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[d] != e {
		return false
	}
	s.dropHandleLocked(e)
	delete(s.entries, d)
	return true
}

// quarantine moves a rotten file out of the way. A file that cannot be moved is
// deleted: it must not be found again under that name.
func (s *Store) quarantine(d Digest, e *entry, cause error) {
	if !s.forget(d, e) {
		return
	}
	s.metrics.quarantined.Inc()
	s.log.Error().Err(cause).Stringer("digest", d).Msg("blob set aside")
	aside := filepath.Join(s.dir(quarantineDir), fmt.Sprintf("%s.%d", d.hex(), time.Now().UnixNano()))
	err := s.fs.Rename(s.path(d), aside)
	if err != nil {
		err = s.fs.Remove(s.path(d))
	}
	if err == nil {
		err = s.fs.SyncDir(filepath.Dir(s.path(d)))
	}
	if err != nil {
		s.log.Error().Err(err).Stringer("digest", d).Msg("rotten blob could not be moved")
	}
	s.trimQuarantine()
}

// quarantineMax bounds the rotten files kept for a person to look at.
const quarantineMax = 16

// trimQuarantine deletes the quarantined files beyond the bound, whichever come
// first in the directory: none is worth more than another.
func (s *Store) trimQuarantine() {
	files, err := s.fs.ReadDir(s.dir(quarantineDir))
	for i := 0; err == nil && i < len(files)-quarantineMax; i++ {
		err = s.fs.Remove(filepath.Join(s.dir(quarantineDir), files[i].Name()))
	}
	if err != nil {
		s.log.Warn().Err(err).Msg("quarantine not trimmed")
	}
}
