//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNoSockets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 15 mem 45\nUDP: inuse 0 mem 0\n": true,
		"sockets: used 1\nTCP: inuse 0 orphan 0 tw 0 alloc 15 mem 45\n":                     false,
		"sockets: used 0\nTCP: inuse 0 orphan 0 tw 2 alloc 15 mem 45\n":                     false,
		"sockets: used 0\n": false,
		"":                  false,
	} {
		if got := noSockets(text); got != want {
			t.Errorf("noSockets(%q) = %v", text, got)
		}
	}
}

// TestNetworkNamespaceServesAgainOnlyWhenEmpty watches which namespaces instances
// get after others that did and did not leave a socket behind.
func TestNetworkNamespaceServesAgainOnlyWhenEmpty(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newSandbox(t)
	inode := func(f *os.File) string {
		link, err := os.Readlink("/proc/self/fd/" + itoa(f))
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	seen := map[string]int{}
	for range 4 * berthsReady {
		c := startChild(t, s, "exit3")
		if c.berth.net == nil {
			t.Fatal("no network namespace")
		}
		seen[inode(c.berth.net)]++
		c.Kill()
	}
	if len(seen) > 3*berthsReady {
		t.Errorf("%d namespaces for %d instances that opened no socket", len(seen), 4*berthsReady)
	}
	b := &berths{sandbox: s, used: make(chan *os.File, 2)}
	done := make(chan string, 2)
	ownThread(&b.done, func() {
		first, err := newNetNamespace()
		if err != nil {
			done <- err.Error()
			return
		}
		was := inode(first)
		// A socket that outlives its instance, as one that was passed on would.
		socket, err := socketHere()
		if err != nil {
			done <- err.Error()
			return
		}
		b.used <- first
		second, err := b.freshNet()
		if err != nil || inode(second) == was {
			done <- "a namespace with a socket in it served again"
			return
		}
		was = inode(second)
		_ = socket.Close()
		b.used <- second
		third, err := b.freshNet()
		if err != nil || inode(third) != was {
			done <- "an empty namespace did not serve again"
			return
		}
		_ = third.Close()
		done <- ""
	})
	b.done.Wait()
	if text := <-done; text != "" {
		t.Error(text)
	}
}

func itoa(f *os.File) string { return strconv.Itoa(int(f.Fd())) }

// socketHere opens a socket in the calling thread's network namespace.
func socketHere() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}
