// Package loopback gives tests addresses on loopback that stay theirs.
//
// Listening on port 0 and closing again does not: the port is one of those that the
// kernel hands to outgoing connections and to others who listen on port 0, and by the
// time that a test listens there it may be taken. The addresses of this package lie
// below those, and a lock keeps them apart between the test binaries of a machine.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports that are handed out. Linux begins its own at 32768.
const (
	firstPort = 16000
	lastPort  = 31999
)

// next is the port that is tried next. Binaries begin at different ones.
var next = struct {
	sync.Mutex
	port int
}{port: firstPort + rand.IntN(lastPort-firstPort)}

// Address returns HOST:PORT on loopback that nobody listens on, for TCP and UDP. It is
// the test's until it ends.
func Address(t testing.TB) string {
	t.Helper()
	next.Lock()
	defer next.Unlock()
	for range lastPort - firstPort {
		if next.port++; next.port > lastPort {
			next.port = firstPort
		}
		lock, err := net.Listen("unix", fmt.Sprintf("@covey-test-port-%d", next.port))
		if err != nil {
			continue // another test's
		}
		address := fmt.Sprintf("127.0.0.1:%d", next.port)
		if !free(address) {
			_ = lock.Close()
			continue
		}
		t.Cleanup(func() { _ = lock.Close() })
		return address
	}
	t.Fatal("no free port on loopback")
	return ""
}

// free tells whether nobody listens on the address.
func free(address string) bool {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return udp.Close() == nil
}
