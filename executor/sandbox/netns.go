//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Network namespaces are dear: one takes the kernel longer to make than all the
// rest of a start, and longer still to take apart. So a used one serves again,
// provided that the kernel counts no socket in it: none open, none lingering, none
// whose descriptor went elsewhere. Nothing else can be left by an instance, which
// has no capabilities to change interfaces, routes or settings.

// freshNet moves the calling thread into a network namespace without sockets,
// preferably a used one, and returns a descriptor of it.
func (b *berths) freshNet() (*os.File, error) {
	for {
		select {
		case ns := <-b.used:
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil && countsNoSocket() {
				return ns, nil
			}
			_ = ns.Close()
		default:
			return newNetNamespace()
		}
	}
}

// countsNoSocket asks the kernel about the calling thread's network namespace.
func countsNoSocket() bool {
	text, err := os.ReadFile("/proc/thread-self/net/sockstat")
	return err == nil && noSockets(string(text))
}

// noSockets reads a sockstat: the sockets of all families in use, and those of TCP
// that wait for their last packets.
func noSockets(sockstat string) bool {
	used, waiting := false, false
	for line := range strings.Lines(sockstat) {
		fields := strings.Fields(line)
		for i := 1; i+1 < len(fields); i += 2 {
			switch fields[0] + fields[i] {
			case "sockets:used":
				used = fields[i+1] == "0"
			case "TCP:tw":
				waiting = fields[i+1] == "0"
			}
		}
	}
	return used && waiting
}

// newNetNamespace moves the calling thread into a new network namespace, sets its
// loopback up and returns a descriptor of it.
func newNetNamespace() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return nil, os.NewSyscallError("set loopback up", err)
	}
	return os.Open("/proc/thread-self/ns/net")
}
