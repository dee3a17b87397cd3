package blob

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeBytes is what an unprivileged writer may still use.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("stat file system of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// reopen returns a second descriptor of f's inode with an offset of its own. It
// goes through /proc and not through the path, which may name another inode by
// now. It touches no disk, so it may be called under a mutex.
func reopen(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var openErr error
	err = conn.Control(func(old uintptr) {
		path := "/proc/self/fd/" + strconv.Itoa(int(old))
		fd, openErr = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err == nil {
		err = openErr
	}
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// dropCache makes the next read of f come from the disk, which is what a scrub
// wants to know about.
func dropCache(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) })
}

// fileID tells whether a path still names the file that was verified.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// identify reads the inode of an open file, so that it speaks of the file that
// was verified and not of the path.
func identify(f *os.File) (fileID, error) {
	info, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, fmt.Errorf("stat %s: no inode number", f.Name())
	}
	return fileID{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}
