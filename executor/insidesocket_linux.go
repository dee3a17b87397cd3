package executor

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// nowhere is a path that cannot exist.
const nowhere = "/dev/null/nowhere"

// insideSocket is a Unix socket that lives in an instance's mount namespace,
// held by a descriptor so that it can be dialled from here.
type insideSocket struct{ fds []int }

// open returns a path that leads to the socket that the process calls path. The
// function chose that path, so no symbolic link is followed and nothing outside
// its own root is meant: either could lead the daemon to a socket of the machine.
func (s *insideSocket) open(pid int, path string) string {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nowhere
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_IN_ROOT,
	})
	if err != nil {
		return nowhere
	}
	s.fds = append(s.fds, fd)
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// close lets go of the socket; connections to it stay.
func (s *insideSocket) close() {
	for _, fd := range s.fds {
		_ = unix.Close(fd) // opened for its path only
	}
	s.fds = nil
}
