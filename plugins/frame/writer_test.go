package frame

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// shortConn takes a number of bytes and then fails.
type shortConn struct {
	net.Conn
	left int
	got  bytes.Buffer
}

var errBroken = errors.New("broken")

func (c *shortConn) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	c.got.Write(p[:n])
	if n < len(p) {
		return n, errBroken
	}
	return n, nil
}

func (c *shortConn) SetWriteDeadline(time.Time) error { return nil }

// TestWriterKnowsWhatWasSent cuts the connection after every possible byte of three messages.
func TestWriterKnowsWhatWasSent(t *testing.T) {
	t.Parallel()
	const size = HeaderSize + 10
	for cut := range 3*size + 1 {
		w := NewWriter(&shortConn{left: cut}, new(Pool), false)
		for i := range 3 {
			end, err := w.Message(Header{Type: InvokeCall, ID: uint64(i + 1)}, nil, make([]byte, 10))
			whole := cut >= (i+1)*size
			if whole != (err == nil) {
				t.Errorf("cut after %d: message %d: %v", cut, i, err)
			}
			if err != nil && w.Sent(end) {
				t.Errorf("cut after %d: message %d counts as sent", cut, i)
			}
		}
	}
}

func TestWriterWritesWhatReaderReads(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		for _, size := range []int{0, 1, directBody, MaxPayload - 3, MaxPayload - 2, MaxPayload, 3*MaxPayload + 1} {
			conn := &shortConn{left: 1 << 30}
			body := bytes.Repeat([]byte("covey!"), size/6+1)[:size]
			if _, err := NewWriter(conn, new(Pool), direct).Message(Header{Type: InvokeCall, ID: 9}, Raw("hi"), body); err != nil {
				t.Fatal(err)
			}
			head, got := readMessage(t, &conn.got)
			if string(head) != "hi" || !bytes.Equal(got, body) {
				t.Errorf("direct %v, %d bytes: head %q and %d bytes came out", direct, size, head, len(got))
			}
		}
	}
}

// readMessage reads the frames of one message.
func readMessage(t *testing.T, from io.Reader) (head, body []byte) {
	t.Helper()
	r := NewReader(from, new(Pool))
	h, buf, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	head, body = buf.Bytes()[:h.Head], buf.Bytes()[h.Head:]
	if h.Flags&FlagMore == 0 {
		return head, body
	}
	body = nil
	for h.Flags&FlagEnd == 0 {
		if h, buf, err = r.Next(); err != nil {
			t.Fatal(err)
		}
		body = append(body, buf.Bytes()...)
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last chunk: %v", err)
	}
	return head, body
}

func TestWriterRefusesLongHead(t *testing.T) {
	t.Parallel()
	conn := &shortConn{left: 1 << 30}
	w := NewWriter(conn, new(Pool), false)
	end, err := w.Message(Header{Type: InvokeCall, ID: 1}, Raw(make([]byte, MaxHead+1)), nil)
	if !errors.Is(err, ErrTooLarge) || w.Sent(end) || conn.got.Len() > 0 {
		t.Errorf("got %v, and %d bytes were written", err, conn.got.Len())
	}
	if _, err := w.Message(Header{Type: InvokeCall, ID: 2}, nil, nil); err != nil {
		t.Errorf("the next message: %v", err)
	}
}

// TestWriterCombines checks that frames which come while a write is under way share the next write.
func TestWriterCombines(t *testing.T) {
	t.Parallel()
	conn := &slowConn{entered: make(chan struct{}), proceed: make(chan struct{})}
	w := NewWriter(conn, new(Pool), false)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = w.Message(Header{Type: InvokeCall, ID: 1}, nil, nil) })
	<-conn.entered
	for i := range 10 {
		if _, err := w.Message(Header{Type: InvokeCall, ID: uint64(i + 2)}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	close(conn.proceed)
	wg.Wait()
	if len(conn.sizes) != 2 || conn.sizes[1] != 10*HeaderSize {
		t.Errorf("writes of %v bytes, want two", conn.sizes)
	}
}

// slowConn holds its first write until told to proceed.
type slowConn struct {
	shortConn
	entered, proceed chan struct{}
	sizes            []int
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.sizes = append(c.sizes, len(p))
	if len(c.sizes) == 1 {
		close(c.entered)
		<-c.proceed
	}
	return len(p), nil
}
