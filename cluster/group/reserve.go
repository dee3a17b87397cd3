package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// reserve is a file that only takes up space, so that there is some to give when
// the disk is full.
type reserve struct {
	path string
	size int64

	mu sync.Mutex // held during file operations; only rare callers meet here
}

// newReserve touches no disk; a size of 0 makes a reserve that holds nothing.
func newReserve(dir string, size int64) *reserve {
	return &reserve{path: filepath.Join(dir, reserveFile), size: size}
}

// take makes the file unless it exists whole.
func (r *reserve) take() error {
	if r.size == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if info, err := os.Stat(r.path); err == nil && info.Size() == r.size {
		return nil
	}
	if err := allocate(r.path, r.size); err != nil {
		// Half a reserve would be taken for a whole one by nobody, but uses space.
		_ = os.Remove(r.path)
		return fmt.Errorf("make reserve file: %w", err)
	}
	return nil
}

// giveUp removes the file and reports whether that gave space.
func (r *reserve) giveUp() bool {
	if r.size == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return os.Remove(r.path) == nil
}

// allocate makes a file of real blocks, not a hole.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = reserveBlocks(f, size)
	if errors.Is(err, errors.ErrUnsupported) {
		err = writeZeros(f, size)
	}
	return errors.Join(err, f.Close())
}

// writeZeros is for file systems that cannot allocate.
func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return f.Sync()
}
