package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins/frame"
)

func TestBrokenLinkIsReportedAtOnceAndComesBack(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	started := make(chan struct{}, 1)
	n.start(t, "b", func(ctx context.Context, _ state.NodeID, c *Call) (*Reply, error) {
		if string(c.Body) != "hang" {
			return &Reply{Body: c.Body}, nil
		}
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	var st states
	a := n.start(t, "a", echo, func(c *Config) { c.OnState = st.record })
	mustCall(t, a, "b")
	st.wait(t, "b:true")

	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), "b", newCall("hang"))
		failed <- err
	}()
	<-started
	n.setCut(true)
	if err := <-failed; !errors.Is(err, ErrBroken) || errors.Is(err, ErrNotStarted) {
		t.Errorf("open call: got %v, want ErrBroken with an unknown outcome", err)
	}
	st.wait(t, "b:false")
	if a.Up("b") {
		t.Error("the link counts as up")
	}
	began := time.Now()
	if _, err := a.Call(t.Context(), "b", newCall("x")); !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNotStarted) {
		t.Errorf("call on a broken link: got %v, want ErrUnreachable", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a call on a broken link waited %v", took)
	}
	n.setCut(false)
	st.wait(t, "b:true")
	mustCall(t, a, "b")
}

func TestNodeThatWasNeverThereIsDown(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	var st states
	a := n.start(t, "a", echo, func(c *Config) { c.OnState = st.record })
	if _, err := a.Call(t.Context(), "ghost", newCall("x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	st.wait(t, "ghost:false")
	a.Forget("ghost")
	if _, err := a.Call(t.Context(), "a", newCall("x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a call to itself: got %v", err)
	}
}

func TestPokeEndsThePauseBetweenAttempts(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	var st states
	a := n.start(t, "a", echo, func(c *Config) { c.OnState, c.BackoffMax = st.record, time.Hour })
	if _, err := a.Call(t.Context(), "b", newCall("x")); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
	st.wait(t, "b:false")
	for range 20 { // into pauses of half an hour and more
		a.peers["b"].poked <- struct{}{}
	}
	b := n.start(t, "b", echo)
	a.Poke("b")
	st.wait(t, "b:true")
	mustCall(t, a, "b")

	// A node that calls needs no poke.
	n.setCut(true)
	st.wait(t, "b:false")
	n.setCut(false)
	waitFor(t, func() error {
		r, err := b.Call(t.Context(), "a", newCall("x"))
		r.Release()
		return err
	})
	st.wait(t, "b:true")
}

// frozenConn stops delivering when told, like a peer that vanished.
type frozenConn struct {
	net.Conn
	frozen *atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (c *frozenConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.frozen.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *frozenConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestPeerThatVanishedBreaksTheLink(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	var frozen atomic.Bool
	n.wrap = func(c net.Conn) net.Conn {
		return &frozenConn{Conn: c, frozen: &frozen, closed: make(chan struct{})}
	}
	n.start(t, "b", echo)
	var st states
	a := n.start(t, "a", echo, func(c *Config) {
		c.OnState, c.PingEvery, c.PingTimeout, c.ConnectTimeout = st.record, 5*time.Millisecond, 30*time.Millisecond, time.Second
	})
	mustCall(t, a, "b")
	frozen.Store(true)
	_, err := a.Call(t.Context(), "b", newCall("x"))
	if !errors.Is(err, ErrBroken) || errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want ErrBroken with an unknown outcome", err)
	}
	st.wait(t, "b:false")
	frozen.Store(false)
	waitFor(t, func() error {
		r, err := a.Call(t.Context(), "b", newCall("x"))
		r.Release()
		return err
	})
	st.wait(t, "b:true")
}

// cutConn fails after so many bytes in one direction, taking the last ones only
// in part.
type cutConn struct {
	net.Conn
	left  *atomic.Int64
	write bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if !c.write {
		return c.Conn.Write(b)
	}
	allowed := min(max(c.left.Add(-int64(len(b)))+int64(len(b)), 0), int64(len(b)))
	n, err := c.Conn.Write(b[:allowed])
	if err == nil && n < len(b) {
		_ = c.Close()
		err = errors.New("cut")
	}
	return n, err
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.write || err != nil {
		return n, err
	}
	if left := c.left.Add(-int64(n)); left < 0 {
		_ = c.Close()
		return max(n+int(left), 0), errors.New("cut")
	}
	return n, nil
}

// TestCutAtEveryByte breaks the only connection after each number of bytes of a
// call or of its answer. Whatever the moment: a call that is said not to have
// started has not; one whose last byte did not leave is said so; and nothing
// runs twice.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"call", "answer"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			var left atomic.Int64
			left.Store(1 << 40)
			n.wrap = func(c net.Conn) net.Conn { return &cutConn{Conn: c, left: &left, write: direction == "call"} }
			var seen counter
			n.start(t, "b", seen.wrap(echo))
			a := n.start(t, "a", echo, func(c *Config) { c.Conns, c.BackoffMax, c.PingEvery = 1, time.Millisecond, time.Hour })
			mustCall(t, a, "b")
			size := messageSize(t, direction)
			for at := range size + 1 {
				before := seen.n.Load()
				left.Store(int64(at))
				_, err := a.Call(t.Context(), "b", newCall("hello"))
				left.Store(1 << 40)
				// Wait until the link is back: whatever the other side read has been served
				// or dropped by then.
				waitFor(t, func() error {
					r, err := a.Call(t.Context(), "b", newCall("hello"))
					r.Release()
					return err
				})
				ran := seen.n.Load() - before - 1
				switch {
				case ran > 1:
					t.Fatalf("cut after %d of %d bytes: ran %d times", at, size, ran)
				case errors.Is(err, ErrNotStarted) && ran != 0:
					t.Fatalf("cut after %d of %d bytes: ran, but is said not to have started: %v", at, size, err)
				case direction == "call" && at < size && !errors.Is(err, ErrNotStarted):
					t.Fatalf("cut after %d of %d bytes of the call: got %v, want not started", at, size, err)
				case direction == "answer" && at < size && (err == nil || errors.Is(err, ErrNotStarted)):
					t.Fatalf("cut after %d of %d bytes of the answer: got %v, want unknown", at, size, err)
				case at == size && err != nil:
					t.Fatalf("not cut at all: %v", err)
				}
			}
		})
	}
}

// messageSize is the number of bytes of the test's call or of its answer.
func messageSize(t *testing.T, direction string) int {
	t.Helper()
	call := newCall("hello")
	if direction == "call" {
		return frame.HeaderSize + len(call.AppendTo(nil)) + len(call.Body)
	}
	reply, err := echo(t.Context(), "a", call)
	if err != nil {
		t.Fatal(err)
	}
	head := (&report{reply: reply, result: true}).AppendTo(nil)
	return frame.HeaderSize + len(head) + len(reply.Body)
}
