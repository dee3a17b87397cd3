package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"path/filepath"
	"time"

	"github.com/covey-dev/covey/internal/forks"
)

// blobMode lets every user execute a blob through an inherited descriptor. The
// store's directories are 0700, so nobody else finds it by path.
const blobMode = 0o555

// spaceCheckEvery is how many bytes may be written between two looks at the
// free space.
const spaceCheckEvery = 4 << 20

// stage is a blob being written. One goroutine at a time uses it, and ends it
// with commit or discard.
type stage struct {
	store *Store
	file  File
	hash  hash.Hash
	size  int64
	// checked is the size up to which the free space was looked at.
	checked int64
}

// newStage begins a blob of about want bytes; 0 when unknown.
func (s *Store) newStage(want int64) (*stage, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if want > s.cfg.SizeMax {
		return nil, fmt.Errorf("stage blob of %d bytes: %w", want, ErrTooLarge)
	}
	if err := s.checkSpace(want); err != nil {
		return nil, err
	}
	f, err := s.fs.Create(s.dir(stagingDir))
	if err != nil {
		return nil, fmt.Errorf("stage blob: %w", diskError(err))
	}
	return &stage{store: s, file: f, hash: sha256.New(), checked: want}, nil
}

// checkSpace keeps blobs from taking the last space. It is a courtesy to others on
// the disk: between the look and the write it may go, and then ENOSPC says so.
func (s *Store) checkSpace(want int64) error {
	if s.cfg.FreeMin == 0 {
		return nil
	}
	free, err := s.fs.Free(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("stage blob: %w", err)
	}
	if free-want < s.cfg.FreeMin {
		return fmt.Errorf("stage blob of %d bytes: %w: %d bytes free, %d are kept for others", want, ErrNoSpace, free, s.cfg.FreeMin)
	}
	return nil
}

// Write appends p and hashes it.
func (st *stage) Write(p []byte) (int, error) {
	if st.size+int64(len(p)) > st.store.cfg.SizeMax {
		return 0, fmt.Errorf("stage blob: %w", ErrTooLarge)
	}
	if st.size+int64(len(p)) > st.checked {
		if err := st.store.checkSpace(int64(len(p))); err != nil {
			return 0, err
		}
		st.checked = st.size + spaceCheckEvery
	}
	n, err := st.file.Write(p)
	st.hash.Write(p[:n])
	st.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("stage blob: %w", diskError(err))
	}
	return n, nil
}

func (st *stage) digest() Digest { return Digest(st.hash.Sum(nil)) }

// discard throws the staged bytes away.
func (st *stage) discard() {
	_ = st.file.Close()
	if err := st.store.fs.Remove(st.file.Name()); err != nil {
		// The next Open sweeps it.
		st.store.log.Warn().Err(err).Msg("staging file not removed")
	}
}

// commit makes the staged bytes the blob d, durably, unless a verified copy is
// there already. The order matters: the bytes reach the disk before the name
// does, so a crash in between leaves nothing half visible; the name reaches the
// disk before the caller hears of it. The stage is ended either way.
func (st *stage) commit(d Digest) error {
	s := st.store
	if err := matches(st.hash, d); err != nil {
		st.discard()
		return fmt.Errorf("commit blob %s: %w", d, err)
	}
	if s.touch(d) {
		st.discard()
		return nil
	}
	// After a failed fsync the kernel may have dropped the pages, so another try
	// on the same file could succeed wrongly: the stage is over.
	if err := errors.Join(st.file.Chmod(blobMode), st.file.Sync()); err != nil {
		st.discard()
		return fmt.Errorf("commit blob %s: %w", d, diskError(err))
	}
	if err := st.file.Close(); err != nil {
		st.discard()
		return fmt.Errorf("commit blob %s: %w", d, diskError(err))
	}
	forks.Settle(st.file.Name())
	if err := s.publish(d, st.file.Name()); err != nil {
		return fmt.Errorf("commit blob %s: %w", d, diskError(err))
	}
	return nil
}

// publish gives a finished file its name and enters it.
func (s *Store) publish(d Digest, from string) error {
	shard := filepath.Dir(s.path(d))
	err := s.fs.MkdirAll(shard)
	if err == nil {
		err = s.fs.SyncDir(filepath.Dir(shard)) // cheap when the shard is old
	}
	if err == nil {
		err = s.fs.Rename(from, s.path(d))
	}
	if err != nil {
		return errors.Join(err, s.fs.Remove(from))
	}
	if err := s.fs.SyncDir(shard); err != nil {
		// Whether the name survives a power cut is unknown. It goes, so that nobody
		// counts on it.
		return errors.Join(err, s.fs.Remove(s.path(d)))
	}
	return s.enter(d)
}

// enter indexes a file that was just hashed and written, and keeps it open.
func (s *Store) enter(d Digest) error {
	f, err := s.fs.Open(s.path(d))
	if err != nil {
		return err
	}
	id, err := identify(f)
	if err != nil {
		_ = f.Close()
		return err
	}
	e := &entry{size: id.size}
	s.mu.Lock()
	if old := s.entries[d]; old != nil {
		s.dropHandleLocked(old)
	}
	s.entries[d] = e
	s.mu.Unlock()
	if !s.keep(d, e, f, id) {
		_ = f.Close()
	}
	return nil
}

// touch reports whether a verified copy of d is here, and restarts the time that
// it is kept without a name: somebody is about to name it.
func (s *Store) touch(d Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.touchLocked(d)
}

func (s *Store) touchLocked(d Digest) bool {
	e := s.entries[d]
	if e == nil || !e.verified {
		return false
	}
	e.unnamed = time.Time{}
	return true
}
