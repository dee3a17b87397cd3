//go:build unix && !linux

package frame

import "syscall"

// recvFlags is empty: these systems cannot receive descriptors close-on-exec in one step. Nodes run on
// Linux; elsewhere the package only has to serve development.
const recvFlags = 0

func socketpair() ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	return fds, err
}
