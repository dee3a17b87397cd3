package clustertest

import (
	"context"
	"net"
	"sync"
	"time"
)

// network is the wires between the peer ports of a fleet. Each node dials through
// its own link, so the network knows both ends of each connection.
type network struct {
	mu    sync.Mutex
	links []*link
}

// link is one node's plug.
type link struct {
	net *network
	// Guarded by net.mu.
	address string
	cut     bool
	deaf    map[*link]bool // Whom this node cannot dial.
	conns   map[*wire]struct{}
}

func newNetwork() *network { return &network{} }

func (n *network) join() *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &link{net: n, conns: map[*wire]struct{}{}, deaf: map[*link]bool{}}
	n.links = append(n.links, l)
	return l
}

// listen notes where a node is reached.
func (l *link) listen(address string) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.address = address
}

// isolate cuts or mends a plug. Connections that were cut stay dead: their bytes
// are lost.
func (n *network) isolate(l *link, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l.cut = cut
	if !cut {
		return
	}
	for _, other := range n.links {
		for w := range other.conns {
			if w.from == l || w.to == l {
				w.die()
			}
		}
	}
}

// oneWay cuts or mends what one node dials to another.
func (n *network) oneWay(from, to *link, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from.deaf[to] = cut
	if !cut {
		return
	}
	for w := range from.conns {
		if w.to == to {
			w.die()
		}
	}
}

// cutLocked reports whether nothing passes from a node to another.
func (l *link) cutLocked(to *link) bool {
	return l.cut || (to != nil && (to.cut || l.deaf[to]))
}

// dial connects to another node's peer port. Into a cut it hangs, as a silent
// partition does, until the context ends.
func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	l.net.mu.Lock()
	to := l.net.atLocked(address)
	cut := l.cutLocked(to)
	l.net.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, from: l, to: to, dead: make(chan struct{})}
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.cutLocked(to) {
		w.die()
	}
	l.conns[w] = struct{}{}
	return w, nil
}

func (n *network) atLocked(address string) *link {
	for _, l := range n.links {
		if l.address == address {
			return l
		}
	}
	return nil
}

// wire is a connection that can go silent. The other end sees nothing of it, not
// even a close.
type wire struct {
	net.Conn
	from, to *link

	once sync.Once
	dead chan struct{}
	mu   sync.Mutex
	read time.Time // The read deadline, for reads that hang.
}

// die makes the wire silent. A read in progress is ended by a deadline and then
// hangs.
func (w *wire) die() {
	w.once.Do(func() {
		close(w.dead)
		_ = w.Conn.SetReadDeadline(time.Now())
	})
}

func (w *wire) silent() bool {
	select {
	case <-w.dead:
		return true
	default:
		return false
	}
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.silent() {
		w.mu.Lock()
		limit := 3 * time.Second // What the kernel's user timeout would do.
		if !w.read.IsZero() {
			limit = min(limit, time.Until(w.read))
		}
		w.mu.Unlock()
		<-time.After(limit)
		_ = w.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn. Bytes into the silence are lost.
func (w *wire) Write(p []byte) (int, error) {
	if w.silent() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	w.read = t
	w.mu.Unlock()
	if w.silent() {
		return nil
	}
	return w.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (w *wire) SetDeadline(t time.Time) error {
	if w.silent() {
		return nil
	}
	w.mu.Lock()
	w.read = t
	w.mu.Unlock()
	return w.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.from.net.mu.Lock()
	delete(w.from.conns, w)
	w.from.net.mu.Unlock()
	return w.Conn.Close()
}
