package lambda

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// readSize holds a request's head and the smaller answers.
	readSize = 16 << 10
	// joinBelow is up to which size head and event are sent in one piece by copying.
	joinBelow = 64 << 10
	// settleTime is how long the connections of a program that ended may take to be read out. They take
	// microseconds, unless one of its own children holds one open.
	settleTime = time.Second
)

// server speaks HTTP/1.1 to the program. It reads requests with net/http and writes answers itself: a poll is
// answered by the goroutine that has the event, without waking the one that reads the connection, which is what
// net/http's own server would need.
type server struct {
	host     *host
	listener net.Listener

	mu    sync.Mutex
	conns map[*conn]struct{} // guarded by mu
	empty chan struct{}      // guarded by mu; closed when the last connection ends, if anybody waits for that
}

// newServer listens and serves for as long as the process lives.
func newServer(h *host) (*server, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open runtime API: %w", err)
	}
	s := &server{host: h, listener: listener, conns: make(map[*conn]struct{})}
	// It ends with the process: only that closes the listener.
	go s.accept()
	return s, nil
}

func (s *server) address() string { return s.listener.Addr().String() }

func (s *server) accept() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			// Out of descriptors, for instance: the program has some of them and may close one.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		c := &conn{Conn: nc, server: s}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		go c.serve()
	}
}

func (s *server) leave(c *conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// settle waits until the connections of a program that ended are read out.
func (s *server) settle() {
	s.mu.Lock()
	empty := s.empty
	if empty == nil && len(s.conns) > 0 {
		empty = make(chan struct{})
		s.empty = empty
	}
	s.mu.Unlock()
	if empty == nil {
		return
	}
	patience := time.NewTimer(settleTime)
	defer patience.Stop()
	select {
	case <-empty:
	case <-patience.C:
	}
}

// warmUp runs one request through, so that the first one of the program finds everything in memory.
func (s *server) warmUp() error {
	nc, err := net.Dial("tcp4", s.address())
	if err != nil {
		return fmt.Errorf("try runtime API: %w", err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, "GET /"+apiVersion+"/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return fmt.Errorf("try runtime API: %w", err)
	}
	if _, err := io.ReadAll(nc); err != nil {
		return fmt.Errorf("try runtime API: %w", err)
	}
	return nil
}

// conn is one connection of the program.
type conn struct {
	net.Conn
	server *server
	out    []byte // space for an answer; used by whoever answers the one request that is open
}

// serve answers one request after another.
func (c *conn) serve() {
	defer c.server.leave(c)
	in := bufio.NewReaderSize(c, readSize)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return // Closed, mostly; nobody reads what could be said about a request that is none.
		}
		if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
			r.Body = &expected{ReadCloser: r.Body, conn: c}
		}
		if !c.server.host.route(c, in, r) {
			return
		}
		// The next request begins behind the body.
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.Close {
			return
		}
	}
}

// abandon breaks the connection off.
func (c *conn) abandon() { _ = c.Close() }

// expected asks for the body when it is first read.
type expected struct {
	io.ReadCloser
	conn  *conn
	asked bool
}

func (e *expected) Read(p []byte) (int, error) {
	if !e.asked {
		e.asked = true
		if _, err := io.WriteString(e.conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return 0, err
		}
	}
	return e.ReadCloser.Read(p)
}

// answer sends a small answer. It reports whether the connection can go on.
func (c *conn) answer(status int, body string) bool {
	c.out = append(c.out[:0], "HTTP/1.1 "...)
	c.out = strconv.AppendInt(c.out, int64(status), 10)
	c.out = append(append(c.out, ' '), http.StatusText(status)...)
	c.out = append(c.out, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), body...)
	_, err := c.Write(c.out)
	return err == nil
}

// event answers a poll with a call.
func (c *conn) event(call *call, i *identity) error {
	payload := call.payload
	if len(payload) == 0 {
		payload = emptyEvent
	}
	c.out = append(c.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"...)
	c.out = i.appendHeaders(c.out, call)
	c.out = append(c.out, "Content-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(payload)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	if len(payload) < joinBelow {
		c.out = append(c.out, payload...)
		_, err := c.Write(c.out)
		return err
	}
	buffers := net.Buffers{c.out, payload}
	_, err := buffers.WriteTo(c.Conn)
	return err
}
