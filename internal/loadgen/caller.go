package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// errStatus is an answer other than 200.
var errStatus = errors.New("unexpected status")

// caller is one connection with one request open at a time. Not safe for
// concurrent use.
type caller struct {
	load    *Load
	conn    net.Conn
	r       *bufio.Reader
	request []byte
	took    []time.Duration
	errors  int
	first   error
}

func dial(ctx context.Context, l *Load) (*caller, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.Addr)
	if err != nil {
		return nil, err
	}
	return &caller{load: l, conn: conn, r: bufio.NewReaderSize(conn, 64<<10), request: render(l)}, nil
}

// render makes the bytes that every request consists of.
func render(l *Load) []byte {
	method, path := l.Method, l.Path
	if method == "" {
		method = "POST"
	}
	if path == "" {
		path = "/"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", method, path, l.Addr, len(l.Body))
	for _, h := range l.Header {
		b.WriteString(h)
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
	b.Write(l.Body)
	return b.Bytes()
}

func (c *caller) close() { _ = c.conn.Close() }

// run sends calls until ctx ends or, when calls is positive, so many are sent.
// A broken connection is dialled anew; each failure counts as one error.
func (c *caller) run(ctx context.Context, calls int) {
	deadline, _ := ctx.Deadline()
	for n := 0; calls == 0 || n < calls; n++ {
		start := time.Now()
		if ctx.Err() != nil || start.After(deadline) {
			return
		}
		// A server that hangs ends this caller, not the benchmark.
		if n%64 == 0 {
			_ = c.conn.SetDeadline(deadline.Add(10 * time.Second))
		}
		err := c.call()
		if err == nil {
			c.took = append(c.took, time.Since(start))
			continue
		}
		c.errors++
		if c.first == nil {
			c.first = err
		}
		if !errors.Is(err, errStatus) && !c.redial(ctx) {
			return
		}
	}
}

func (c *caller) redial(ctx context.Context) bool {
	c.close()
	next, err := dial(ctx, c.load)
	if err != nil {
		return false
	}
	c.conn, c.r = next.conn, next.r
	return true
}

// call sends one request and reads its answer.
func (c *caller) call() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	status, length, err := c.head()
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if status != 200 {
		text, _ := io.ReadAll(io.LimitReader(c.r, min(int64(length), 512)))
		_, _ = io.CopyN(io.Discard, c.r, int64(length-len(text)))
		return fmt.Errorf("%w %d: %s", errStatus, status, text)
	}
	if _, err := c.r.Discard(length); err != nil {
		return fmt.Errorf("read answer's body: %w", err)
	}
	if c.load.WantBody >= 0 && length != c.load.WantBody {
		return fmt.Errorf("%w: body of %d bytes, want %d", errStatus, length, c.load.WantBody)
	}
	return nil
}

var contentLength = []byte("content-length:")

// head reads the status line and the header fields.
func (c *caller) head() (status, length int, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("malformed status line %q", line)
	}
	status, err = strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, 0, fmt.Errorf("malformed status line: %w", err)
	}
	length = -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):])))
			if err != nil {
				return 0, 0, fmt.Errorf("malformed content length: %w", err)
			}
		}
	}
	if length < 0 {
		return 0, 0, errors.New("answer has no content length")
	}
	return status, length, nil
}
