package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// The front suite: what a front door must get right on the wire, whatever
// serves it. It talks raw TCP, because a good client hides these cases.

// soon bounds waits for what must happen; never reached when all is well.
const soon = 10 * time.Second

// raw is one raw connection.
type raw struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, address string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	return &raw{Conn: c, t: t, r: bufio.NewReader(c)}
}

func (c *raw) send(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c, format, args...); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// response reads one whole response.
func (c *raw) response() (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read body: %v", err)
	}
	return resp, string(body)
}

// closed waits for the other end to close.
func (c *raw) closed() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c.r); err != nil && !errors.Is(err, net.ErrClosed) {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			c.t.Errorf("connection stays open after %d bytes", n)
		}
	}
}

// head is the start of a call; more follows by the test's choice.
func (n *fakeNode) head(more string) string {
	return "POST " + native + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + n.invoker + "\r\n" + more
}

func TestClientGoneCancelsTheCall(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	started, canceled := make(chan struct{}), make(chan struct{})
	n.invoke = func(ctx context.Context, _ *invoke.Request) (*invoke.Response, error) {
		close(started)
		<-ctx.Done()
		close(canceled)
		return nil, invoke.ErrCanceled
	}
	_, address, _ := listen(t, n)
	c := dial(t, address)
	c.send("%s", n.head("Content-Length: 4\r\n\r\nping"))
	<-started
	c.Close()
	select {
	case <-canceled:
	case <-time.After(soon):
		t.Fatal("the call goes on without its client")
	}
}

func TestLongCallOutlivesTheBodyDeadline(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	const limit = 500 * time.Millisecond
	n.invoke = func(ctx context.Context, req *invoke.Request) (*invoke.Response, error) {
		select {
		case <-time.After(3 * limit):
			return answer(req, []byte("done")), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	_, address, _ := listen(t, n, func(c *Config) { c.BodyTimeout = limit })
	calls := map[string]*raw{}
	for _, body := range []string{"Content-Length: 4\r\n\r\nping", "Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\nping\r\n0\r\n\r\n"} {
		calls[body] = dial(t, address)
		calls[body].send("%s", n.head(body))
	}
	for body, c := range calls {
		if resp, got := c.response(); resp.StatusCode != 200 || got != "done" {
			t.Errorf("%q: %d %q", body, resp.StatusCode, got)
		}
	}
}

func TestStreamedAnswerArrivesAsItIsMade(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	parts, source := io.Pipe()
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		resp := answer(req, nil)
		resp.Stream, resp.ContentType = parts, "text/event-stream"
		return resp, nil
	}
	_, address, _ := listen(t, n)
	c := dial(t, address)
	// The body comes in two chunks, with the answer streaming back after.
	c.send("%s", n.head("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"))
	c.send("2\r\ncd\r\n0\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		// The header comes with the first part at the latest; it must not wait
		// for the end.
		t.Fatalf("%v %v", resp, err)
	}
	for _, part := range []string{"one", "two"} {
		if _, err := io.WriteString(source, part); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(part))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != part {
			t.Fatalf("got %q, %v, want %q before the next is made", got, err, part)
		}
	}
	source.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("end: %q, %v", rest, err)
	}
}

func TestBrokenStreamIsCutShort(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		resp := answer(req, nil)
		resp.Stream = io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{}))
		return resp, nil
	}
	_, address, _ := listen(t, n)
	c := dial(t, address)
	c.send("%s", n.head("Content-Length: 0\r\n\r\n"))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a broken answer passes for whole: %q", body)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("instance died") }

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	_, address, _ := listen(t, n, func(c *Config) { c.MaxBody = 100 })
	c := dial(t, address)
	c.send("%s", n.head("Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"))
	line, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("got %q, %v, want 100 Continue", line, err)
	}
	_, _ = c.r.ReadString('\n')
	c.send("ping")
	if resp, body := c.response(); resp.StatusCode != 200 || body != "ping" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	for name, tc := range map[string]struct {
		request string
		status  int
	}{
		"too large": {n.head("Content-Length: 101\r\nExpect: 100-continue\r\n\r\n"), 413},
		"no token":  {"POST " + native + " HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", 401},
	} {
		c := dial(t, address)
		c.send("%s", tc.request)
		if resp, _ := c.response(); resp.StatusCode != tc.status {
			t.Errorf("%s: %d before the body, want %d", name, resp.StatusCode, tc.status)
		}
	}
}

func TestPipelinedCallsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	_, address, _ := listen(t, n)
	c := dial(t, address)
	const calls = 20
	var all strings.Builder
	for i := range calls {
		fmt.Fprintf(&all, "%s", n.head(fmt.Sprintf("Content-Length: 2\r\n\r\n%02d", i)))
	}
	c.send("%s", all.String())
	for i := range calls {
		if resp, body := c.response(); resp.StatusCode != 200 || body != fmt.Sprintf("%02d", i) {
			t.Fatalf("answer %d: %d %q", i, resp.StatusCode, body)
		}
	}
}

func TestSmugglingIsRefused(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	var calls atomic.Int32
	n.invoke = func(ctx context.Context, req *invoke.Request) (*invoke.Response, error) {
		calls.Add(1)
		return echo(ctx, req)
	}
	_, address, _ := listen(t, n)
	// smuggled would run as a second request if the front took the first one's
	// length for another than a proxy before it does.
	smuggled := n.head("Content-Length: 0\r\n\r\n")
	for _, tc := range []struct{ name, request string }{
		{"two lengths", n.head("Content-Length: 4\r\nContent-Length: 0\r\n\r\nping") + smuggled},
		{"list of lengths", n.head("Content-Length: 4, 0\r\n\r\nping") + smuggled},
		{"signed length", n.head("Content-Length: +4\r\n\r\nping") + smuggled},
		{"hexadecimal length", n.head("Content-Length: 0x4\r\n\r\nping") + smuggled},
		{"negative length", n.head("Content-Length: -4\r\n\r\nping") + smuggled},
		{"space before colon", n.head("Content-Length : 4\r\n\r\nping") + smuggled},
		{"space before colon of coding", n.head("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n") + smuggled},
		{"unknown coding", n.head("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n") + smuggled},
		{"coding with a vertical tab", n.head("Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n") + smuggled},
		{"chunked twice", n.head("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n") + smuggled},
		{"two codings", n.head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n") + smuggled},
		{"bad chunk size", n.head("Transfer-Encoding: chunked\r\n\r\n0x4\r\nping\r\n0\r\n\r\n") + smuggled},
		{"huge chunk size", n.head("Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nping\r\n0\r\n\r\n") + smuggled},
		{"chunk without its end", n.head("Transfer-Encoding: chunked\r\n\r\n4\r\npingX0\r\n\r\n") + smuggled},
		{"bare line feed ends a chunk size", n.head("Transfer-Encoding: chunked\r\n\r\n4\nping\r\n0\r\n\r\n") + smuggled},
		{"NUL in a header", n.head("X: a\x00b\r\nContent-Length: 0\r\n\r\n") + smuggled},
		{"bare carriage return in a header", n.head("X: a\rContent-Length: 4\r\n\r\n") + smuggled},
		{"no host", strings.Replace(n.head("Content-Length: 0\r\n\r\n"), "Host: x\r\n", "", 1) + smuggled},
		{"two hosts", n.head("Host: y\r\nContent-Length: 0\r\n\r\n") + smuggled},
		{"space in the target", strings.Replace(n.head("Content-Length: 0\r\n\r\n"), native, native+" x", 1) + smuggled},
	} {
		before := calls.Load()
		c := dial(t, address)
		c.send("%s", tc.request)
		resp, _ := c.response()
		if resp.StatusCode < 400 || resp.StatusCode >= 502 {
			t.Errorf("%s: status %d", tc.name, resp.StatusCode)
		}
		c.closed()
		if n := calls.Load() - before; n != 0 {
			t.Errorf("%s: %d calls ran", tc.name, n)
		}
	}
	// These may be understood in one way, and nothing may run after it.
	for _, tc := range []struct{ name, request string }{
		{"length and coding", n.head("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") + smuggled},
		{"folded header", n.head("X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nping") + "junk\r\n\r\n" + smuggled},
	} {
		before := calls.Load()
		c := dial(t, address)
		c.send("%s", tc.request)
		c.response()
		c.closed()
		if n := calls.Load() - before; n > 1 {
			t.Errorf("%s: %d calls ran", tc.name, n)
		}
	}
}

func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	_, address, _ := listen(t, n, func(c *Config) { c.MaxHeader = 8 << 10 })
	c := dial(t, address)
	c.send("%s", n.head("X: "+strings.Repeat("a", 16<<10)+"\r\nContent-Length: 0\r\n\r\n"))
	// Only the status is sure to arrive: the rest of the header is still under
	// way when the server closes.
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"in total":    func(c *Config) { c.MaxConns = 2 },
		"per address": func(c *Config) { c.MaxConnsPerIP = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			_, address, _ := listen(t, n, change)
			held := []*raw{dial(t, address), dial(t, address)}
			for _, c := range held {
				c.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
				c.response()
			}
			c := dial(t, address)
			if resp, _ := c.response(); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
			}
			c.closed()
			held[0].Close()
			// The place comes back once the server has seen the end.
			deadline := time.Now().Add(soon)
			for {
				c := dial(t, address)
				c.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(c.r, nil)
				c.Close()
				if err == nil && resp.StatusCode == 200 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("a closed connection keeps its place: %v", err)
				}
			}
		})
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	_, address, _ := listen(t, n, func(c *Config) {
		// Long enough for a request that is on its way, also on a busy machine.
		c.HeaderTimeout, c.BodyTimeout, c.IdleTimeout = 2*time.Second, 500*time.Millisecond, 100*time.Millisecond
	})
	t.Run("header", func(t *testing.T) {
		t.Parallel()
		c := dial(t, address)
		c.send("POST /v1/functions/echo")
		c.closed()
	})
	t.Run("body", func(t *testing.T) {
		t.Parallel()
		c := dial(t, address)
		c.send("%s", n.head("Content-Length: 10\r\n\r\npart"))
		if resp, _ := c.response(); resp.StatusCode != http.StatusRequestTimeout || resp.Header.Get(wire.HeaderError) != string(wire.CodeRequestTimeout) {
			t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
		}
		c.closed()
	})
	t.Run("chunked body", func(t *testing.T) {
		t.Parallel()
		// Its length is unknown, so it gets the time of the largest one; that
		// it is bounded at all is what perByte says.
		if perByte(64<<10) != time.Second {
			t.Errorf("64 KiB get %v", perByte(64<<10))
		}
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		c := dial(t, address)
		c.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		c.response()
		c.closed()
	})
	t.Run("answer that nobody reads", func(t *testing.T) {
		t.Parallel()
		n := newFakeNode(t)
		ended := make(chan error, 1)
		n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
			resp := answer(req, nil)
			resp.Stream = &endless{ended: ended}
			return resp, nil
		}
		_, address, _ := listen(t, n, func(c *Config) { c.WriteTimeout = 50 * time.Millisecond })
		c := dial(t, address)
		c.send("%s", n.head("Content-Length: 0\r\n\r\n"))
		deadline := time.Now().Add(soon)
		for !stalled(n, address) {
			if time.Now().After(deadline) {
				t.Fatal("a client that does not read holds its call for ever")
			}
		}
	})
}

// endless is a stream without end.
type endless struct{ ended chan error }

func (e *endless) Read(p []byte) (int, error) { return len(p), nil }
func (e *endless) Close() error               { return nil }

// stalled reports whether the stalled call was counted as finished.
func stalled(n *fakeNode, address string) bool {
	req, err := http.NewRequest("GET", "http://"+address+"/metrics", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+n.reader)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(text), `gateway_function_invocation_total{code="200",function_name="echo.default"} 1`)
}
