package group

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// stream is Raft's view of the peer port: it listens and dials under the group's
// protocol. Raft dials by address alone; the expected node travels in the
// address, see joinAddr, so that a machine that took over an address is refused.
type stream struct {
	net.Listener
	mux       *Mux
	proto     string
	advertise string
	dialMax   time.Duration
	ctx       context.Context // ends with Close, and with it dials in progress
	cancel    context.CancelFunc
}

var _ raft.StreamLayer = (*stream)(nil)

// newStream listens at once; Raft accepts as soon as its transport exists.
func newStream(m *Mux, proto, advertise string, dialMax time.Duration) (*stream, error) {
	l, err := m.Listen(proto, MembersOnly)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &stream{
		Listener: l, mux: m, proto: proto, advertise: advertise,
		dialMax: dialMax, ctx: ctx, cancel: cancel,
	}, nil
}

// Dial implements raft.StreamLayer. It never waits longer than dialMax: a dial
// into a partition would otherwise outlast the partition.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 || timeout > s.dialMax {
		timeout = s.dialMax
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	id, addr := splitAddr(address)
	return s.mux.Dial(ctx, addr, s.proto, id)
}

// Addr implements net.Listener. Raft sends it to others as the address of this node.
func (s *stream) Addr() net.Addr { return advertised(s.advertise) }

// Close implements net.Listener.
func (s *stream) Close() error {
	s.cancel()
	return s.Listener.Close()
}

// advertised is an address for others, which need not be one of this machine's.
type advertised string

// Network implements net.Addr.
func (advertised) Network() string { return "tcp" }

// String implements net.Addr.
func (a advertised) String() string { return string(a) }

// joinAddr packs a node's id into the address that Raft's transport dials. An id
// holds no "@".
func joinAddr(id NodeID, addr string) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + addr)
}

// splitAddr undoes joinAddr; a plain address comes back without an id.
func splitAddr(a raft.ServerAddress) (NodeID, string) {
	id, addr, ok := strings.Cut(string(a), "@")
	if !ok {
		return "", string(a)
	}
	return NodeID(id), addr
}

// addresses answers Raft's question where a server is reached now. The group's
// configuration holds the address of the time when the server was added; the
// servers' list is newer.
type addresses struct {
	self      NodeID
	advertise string
	servers   func() []Server
	members   func() []Member
}

var _ raft.ServerAddressProvider = (*addresses)(nil)

// ServerAddr implements raft.ServerAddressProvider.
func (a *addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	node := NodeID(id)
	if node == a.self {
		// Raft sends it to others as the leader's address, so it stays plain.
		return raft.ServerAddress(a.advertise), nil
	}
	if addr, ok := a.lookup(node); ok {
		return joinAddr(node, addr), nil
	}
	return "", fmt.Errorf("no address of %s is known", id)
}

// lookup prefers what the owner knows to what the log remembers.
func (a *addresses) lookup(id NodeID) (string, bool) {
	for _, s := range a.servers() {
		if s.ID == id && s.Addr != "" {
			return s.Addr, true
		}
	}
	for _, m := range a.members() {
		if m.ID == id {
			return m.Addr, true
		}
	}
	return "", false
}
