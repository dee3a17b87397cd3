package group

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeSpace returns what an ordinary user may still write to dir's file system.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// reserveBlocks gives a file its blocks without writing them.
func reserveBlocks(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), 0, 0, size)
}
