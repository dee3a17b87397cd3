package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// File is a staging file being written.
type File interface {
	io.Writer
	io.Closer
	// Sync returns once the file's bytes are on the disk.
	Sync() error
	// Chmod sets the permission bits.
	Chmod(mode fs.FileMode) error
	// Name returns the path the file was created under.
	Name() string
}

// FS is the part of the disk that the store depends on to keep its promises.
// Reading goes through *os.File, because a descriptor is what callers need.
type FS interface {
	// MkdirAll makes a directory and its parents.
	MkdirAll(dir string) error
	// Create makes a new file for writing under dir, with a name of its own.
	Create(dir string) (File, error)
	// Open opens a file for reading.
	Open(name string) (*os.File, error)
	// Rename moves a file within the store.
	Rename(from, to string) error
	// Remove deletes a file. One that is absent is not an error.
	Remove(name string) error
	// SyncDir returns once the directory's entries are on the disk.
	SyncDir(dir string) error
	// ReadDir lists a directory.
	ReadDir(dir string) ([]fs.DirEntry, error)
	// Free returns the bytes that may still be written in dir.
	Free(dir string) (int64, error)
}

// Disk is the machine's own file system.
type Disk struct{}

var _ FS = Disk{}

// MkdirAll makes dir with 0700: names of blobs are nobody else's business.
func (Disk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// Create makes a file with 0600 under a random name.
func (Disk) Create(dir string) (File, error) { return os.CreateTemp(dir, "stage-") }

// Open opens name for reading.
func (Disk) Open(name string) (*os.File, error) { return os.Open(name) }

// Rename is os.Rename.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove deletes name if it exists.
func (Disk) Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDir fsyncs the directory.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close()
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return d.Close()
}

// ReadDir is os.ReadDir.
func (Disk) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

// Free asks the file system that holds dir.
func (Disk) Free(dir string) (int64, error) { return freeBytes(dir) }
