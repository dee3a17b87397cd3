package api

import (
	"errors"
	"io"
	stdlog "log"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// limits bound what connections may take.
type limits struct {
	total, perIP int           // open connections; 0 means no bound
	write        time.Duration // one write to a client that does not read
	tls          bool          // an answer in clear text would be noise
}

// listener counts connections and refuses those over the limit, so that a flood
// from one address cannot keep out the others or use up descriptors.
type listener struct {
	net.Listener
	limits  limits
	metrics *metrics

	mu    sync.Mutex
	open  int                // guarded by mu
	perIP map[netip.Addr]int // guarded by mu; no zero values
	// fresh are connections on which nothing came yet.
	fresh map[*conn]struct{} // guarded by mu
}

func newListener(inner net.Listener, l limits, m *metrics) *listener {
	return &listener{Listener: inner, limits: l, metrics: m, perIP: map[netip.Addr]int{}, fresh: map[*conn]struct{}{}}
}

// Accept returns the next connection within the limits. One beyond gets a short
// answer and is closed, because leaving it unaccepted would keep everybody out.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ip := remoteIP(c)
		if l.admit(ip) {
			l.metrics.connections.Inc()
			counted := &conn{Conn: c, owner: l, ip: ip}
			l.mu.Lock()
			l.fresh[counted] = struct{}{}
			l.mu.Unlock()
			return counted, nil
		}
		l.metrics.refused.Inc()
		if !l.limits.tls {
			// A fresh socket's buffer takes these bytes without blocking.
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
		}
		_ = c.Close()
	}
}

// admit takes a place for a connection, or says that there is none.
func (l *listener) admit(ip netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limits.total > 0 && l.open >= l.limits.total {
		return false
	}
	if l.limits.perIP > 0 && l.perIP[ip] >= l.limits.perIP {
		return false
	}
	l.open++
	l.perIP[ip]++
	return true
}

// touched says that something came on a connection, or that it is closed.
func (l *listener) touched(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.fresh, c)
}

// closeFresh closes the connections on which nothing came yet.
func (l *listener) closeFresh() {
	l.mu.Lock()
	conns := slices.Collect(maps.Keys(l.fresh))
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // nothing can be lost
	}
}

// connections is how many are open.
func (l *listener) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// release gives the place of a closed connection back.
func (l *listener) release(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.perIP[ip]--; l.perIP[ip] == 0 {
		delete(l.perIP, ip)
	}
	l.metrics.connections.Dec()
}

// remoteIP is what connections are counted by. An IPv4 address in IPv6 form is
// the same client.
func remoteIP(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// conn is one counted connection whose writes cannot block for ever.
type conn struct {
	net.Conn
	owner  *listener
	ip     netip.Addr
	closed atomic.Bool
	used   atomic.Bool // something came
	// deadline is the write deadline in force, in Unix nanoseconds.
	deadline atomic.Int64
}

// Read takes note of the first bytes.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
		c.owner.touched(c)
	}
	return n, err
}

// Write fails when the client does not read for the write timeout, which is
// longer for a large p. The deadline is moved only when half of it has passed:
// moving it each time would cost a warm call half a microsecond.
func (c *conn) Write(p []byte) (int, error) {
	allowed := c.owner.limits.write + perByte(int64(len(p)))
	now := time.Now()
	if c.deadline.Load()-now.UnixNano() < int64(allowed/2) {
		until := now.Add(allowed)
		if err := c.SetWriteDeadline(until); err != nil {
			return 0, err
		}
		c.deadline.Store(until.UnixNano())
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline takes note, so that Write knows what is in force. Lifting the
// deadline, which net/http does after each answer, is left undone: every Write
// makes sure of its own time.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	c.deadline.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both likewise.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close gives the connection's place back, once.
func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		c.owner.touched(c)
		c.owner.release(c.ip)
	}
	return c.Conn.Close()
}

// slowest is the least rate, in bytes a second, that a client must keep up for
// a large body.
const slowest = 64 << 10

// perByte is the extra time that a body of n bytes gets.
func perByte(n int64) time.Duration {
	if n <= 0 {
		return 0
	}
	return time.Duration(n) * time.Second / slowest
}

// quietLog takes net/http's complaints about clients at debug level: they are
// the client's doing, and as many as it likes.
func quietLog(log zerolog.Logger) *stdlog.Logger {
	return stdlog.New(logWriter{log}, "", 0)
}

type logWriter struct{ log zerolog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.HasPrefix(text, "http: panic serving") {
		w.log.Error().Str("err", text).Msg("a request handler panicked")
	} else {
		w.log.Debug().Str("err", text).Msg("http connection")
	}
	return len(p), nil
}
