package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

func TestMain(m *testing.M) {
	// Idle connections of the default client outlive the tests that made them.
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
	}), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func TestDrainFinishesOpenCallsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	started, finish := make(chan struct{}), make(chan struct{})
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		close(started)
		<-finish
		return answer(req, []byte("done")), nil
	}
	s, address, stop := listen(t, n)
	open, idle := dial(t, address), dial(t, address)
	idle.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.response()
	open.send("%s", n.head("Content-Length: 0\r\n\r\n"))
	<-started
	s.Drain()
	s.Drain() // once more does nothing

	idle.send("%s", n.head("Content-Length: 0\r\n\r\n"))
	resp, _ := idle.response()
	if resp.StatusCode != 503 || resp.Header.Get(wire.HeaderError) != string(wire.CodeDraining) || !resp.Close {
		t.Errorf("new call: %d, close %v, %v", resp.StatusCode, resp.Close, resp.Header)
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	close(finish)
	resp, body := open.response()
	if resp.StatusCode != 200 || body != "done" || !resp.Close {
		t.Errorf("open call: %d %q, close %v", resp.StatusCode, body, resp.Close)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
}

// TestStoppingNodeAnswersWhatIsOnItsWay sends a call on a connection that was idle
// when the node began to stop: its client must learn that it did not run.
func TestStoppingNodeAnswersWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s, address, stop := listen(t, n)
	s.patience = time.Minute
	idle, probe := dial(t, address), dial(t, address)
	for _, c := range []*raw{idle, probe} {
		c.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		c.response()
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for ready := true; ready; { // until it stops
		probe.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, _ := probe.response()
		ready = resp.StatusCode == 200
	}
	idle.send("%s", n.head("Content-Length: 0\r\n\r\n"))
	resp, _ := idle.response()
	if resp.StatusCode != 503 || resp.Header.Get(wire.HeaderError) != string(wire.CodeDraining) || !resp.Close {
		t.Errorf("call on an idle connection: %d, close %v, %v", resp.StatusCode, resp.Close, resp.Header)
	}
	probe.Close()
	idle.Close()
	select {
	case err := <-ended: // without a connection there is nothing to wait for
		if err != nil {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Error("the server lingers without connections")
	}
}

// TestStopDoesNotWaitForAFirstRequest leaves a connection open that was never used,
// as clients do that dial ahead.
func TestStopDoesNotWaitForAFirstRequest(t *testing.T) {
	t.Parallel()
	s, address, stop := listen(t, newFakeNode(t))
	s.patience = time.Millisecond
	unused, probe := dial(t, address), dial(t, address)
	probe.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") // accepted after the other
	probe.response()
	begun := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	unused.closed()
}

func TestDrainTimeoutEndsWhatIsLeft(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	started := make(chan struct{})
	n.invoke = func(ctx context.Context, _ *invoke.Request) (*invoke.Response, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, address, stop := listen(t, n, func(c *Config) { c.DrainTimeout = 50 * time.Millisecond })
	c := dial(t, address)
	c.send("%s", n.head("Content-Length: 0\r\n\r\n"))
	<-started
	if err := stop(); err != nil {
		t.Error(err)
	}
	c.closed()
}

func TestDrainEndsFollowedLogs(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.logs = func(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error] {
		return func(yield func(LogLine, error) bool) {
			if yield(LogLine{Text: "first", Function: q.Function}, nil) && q.Follow {
				<-ctx.Done()
			}
		}
	}
	s, address, _ := listen(t, n)
	c := dial(t, address)
	c.send("GET /v1/apps/default/functions/echo/logs?follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", n.reader)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%v, %v", resp, err)
	}
	line := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, line); err != nil {
		t.Fatalf("the first line waits for the second: %v", err)
	}
	s.Drain()
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(rest), `"text":"first"`) {
		t.Errorf("end of the log: %q, %v", rest, err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	// Borrow httptest's certificate for 127.0.0.1.
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	certificate := lender.TLS.Certificates[0]
	pool := x509.NewCertPool()
	pool.AddCert(lender.Certificate())
	lender.Close()
	n := newFakeNode(t)
	_, address, _ := listen(t, n, func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	})
	for proto, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: h2}
		req, err := http.NewRequest("POST", "https://"+address+native, strings.NewReader("ping"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+n.invoker)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		transport.CloseIdleConnections()
		if err != nil || resp.Proto != proto || string(body) != "ping" {
			t.Errorf("%s: %s %q %v", proto, resp.Proto, body, err)
		}
	}
	c := dial(t, address)
	c.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(c.r, nil); err == nil && resp.StatusCode == 200 {
		t.Error("clear text is served on the TLS port")
	}
}

func TestLifeCycle(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	if err := s.Run(t.Context()); err == nil {
		t.Error("runs without a listener")
	}
	s, _, stop := listen(t, n)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("runs twice")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	s = newServer(t, n, func(c *Config) { c.Listener = ln })
	if err := s.Run(t.Context()); err == nil {
		t.Error("serves on a closed listener")
	}
	newServer(t, n).Drain() // before it ran
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration passes")
	} else if text := fmt.Sprint(err); !strings.Contains(text, "Control") || !strings.Contains(text, "MaxBody") {
		t.Errorf("not all problems are reported: %v", err)
	}
}
