package group

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// PeerConn is a connection between two nodes.
type PeerConn interface {
	net.Conn
	// Peer is the node at the other end; empty for a client of an AnyPeer protocol.
	Peer() NodeID
	// ConnectionState returns the details of the TLS session.
	ConnectionState() tls.ConnectionState
}

// PeerOf returns the node at the other end of a connection that came from a Mux,
// also when the connection was wrapped by something with a NetConn method.
func PeerOf(c net.Conn) (NodeID, bool) {
	for range 8 { // wrappers wrap wrappers, but not without end
		switch v := c.(type) {
		case PeerConn:
			return v.Peer(), v.Peer() != ""
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return "", false
		}
	}
	return "", false
}

// keepAlive finds a peer that vanished while the connection was idle.
var keepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     5 * time.Second,
	Interval: 2 * time.Second,
	Count:    3,
}

// userTimeout is how long sent bytes may stay unacknowledged before the kernel
// gives the connection up. It tells a dead link from a slow peer: a peer whose
// disk stalls still acknowledges.
const userTimeout = 4 * time.Second

// peerConn is the Mux's connection. onClose lets its listener forget it.
type peerConn struct {
	*tls.Conn
	peer    NodeID
	once    sync.Once
	onClose func(*peerConn)
}

var _ PeerConn = (*peerConn)(nil)

func newConn(c *tls.Conn, peer NodeID) *peerConn { return &peerConn{Conn: c, peer: peer} }

// Peer implements PeerConn.
func (c *peerConn) Peer() NodeID { return c.peer }

// Close closes the connection; the second call does nothing. The underlying
// socket goes first when the peer does not read, so Close never waits for it.
func (c *peerConn) Close() error {
	var err error
	c.once.Do(func() {
		if c.onClose != nil {
			c.onClose(c)
		}
		// tls.Conn.Close waits up to five seconds to write its alert.
		_ = c.Conn.NetConn().SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		err = c.Conn.Close()
	})
	return err
}

// listener queues the finished connections of one protocol.
type listener struct {
	mux    *Mux
	proto  string
	policy PeerPolicy
	queue  chan *peerConn // capacity Backlog; never closed, done says the end
	done   chan struct{}

	mu     sync.Mutex
	closed bool
	conns  map[*peerConn]struct{} // delivered and not yet closed
}

// newListener makes a listener that the Mux already knows or is about to.
func newListener(m *Mux, proto string, policy PeerPolicy) *listener {
	return &listener{
		mux:    m,
		proto:  proto,
		policy: policy,
		queue:  make(chan *peerConn, m.cfg.Backlog),
		done:   make(chan struct{}),
		conns:  make(map[*peerConn]struct{}),
	}
}

// deliver hands a connection over; false means that nobody takes it.
func (l *listener) deliver(c *peerConn) bool {
	c.onClose = l.release
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	select {
	case l.queue <- c:
		l.conns[c] = struct{}{}
		return true
	default:
		return false
	}
}

// release forgets a connection that was closed by its user.
func (l *listener) release(c *peerConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener and closes the connections of the protocol.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	open := make([]*peerConn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	close(l.done)
	l.mu.Unlock()

	l.mux.forget(l)
	for _, c := range open {
		_ = c.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.mux.Addr() }
