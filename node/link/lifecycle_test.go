package link

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins/frame"
)

func TestConfigReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Config{})
	for _, field := range []string{"Self", "Dial", "Listener", "PeerID", "Handler", "Conns", "BodyMax", "PingTimeout"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is not reported in: %v", field, err)
		}
	}
}

func TestCallsOutsideRunFail(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", echo)
	a, stop := n.startStoppable(t, "a", echo)
	mustCall(t, a, "b")
	stop()
	if _, err := a.Call(t.Context(), "b", newCall("x")); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotStarted) {
		t.Errorf("after Run: got %v, want ErrClosed", err)
	}
}

func TestRunEndsWithOpenCalls(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	started := make(chan struct{})
	_, stopB := n.startStoppable(t, "b", func(ctx context.Context, _ state.NodeID, _ *Call) (*Reply, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	a, stopA := n.startStoppable(t, "a", echo)
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), "b", newCall("x"))
		failed <- err
	}()
	<-started
	stopA()
	if err := <-failed; err == nil || errors.Is(err, ErrNotStarted) {
		t.Errorf("open call ended with %v", err)
	}
	stopB()
}

func TestRunReportsALostListener(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Self, cfg.Listener, cfg.PeerID, cfg.Handler = "a", listener, peerID, echo
	cfg.Dial = newNetwork().dial("a")
	cfg.Registerer = prometheus.NewRegistry()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Call(t.Context(), "b", newCall("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("before Run: got %v, want ErrClosed", err)
	}
	_ = listener.Close()
	if err := l.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: got %v, want the listener's error", err)
	}
}

func TestIdleConnectionsAreClosedQuietly(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", echo)
	var st states
	a := n.start(t, "a", echo, func(c *Config) {
		c.OnState, c.PingEvery, c.IdleAfter = st.record, time.Millisecond, 5*time.Millisecond
	})
	mustCall(t, a, "b")
	waitFor(t, func() error {
		if a.Up("b") {
			return errors.New("still connected")
		}
		return nil
	})
	if got := st.last(); got != "b:true" {
		t.Errorf("an idle link was reported as %q", got)
	}
	mustCall(t, a, "b")
}

// TestStrangersAreTurnedAway speaks to a link by hand.
func TestStrangersAreTurnedAway(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		hello *frame.Greeting
	}{
		{"newer than we are", &frame.Greeting{Least: 100, Greatest: 200}},
		{"older than we are", &frame.Greeting{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			var seen counter
			n.start(t, "b", seen.wrap(echo))
			c, err := n.dial("x")(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			s := frame.NewSession(c, frame.SessionConfig{})
			if err := s.Send(frame.Hello, tc.hello, nil); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Run() }()
			if _, err := s.Call(t.Context(), frame.InvokeCall, newCall(""), nil); err == nil {
				t.Error("a call was answered")
			}
			<-ended
			if seen.n.Load() != 0 {
				t.Error("the call was served")
			}
		})
	}
}

func TestConnectionsPerNodeAreBounded(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", echo, func(c *Config) { c.InboundMax = 1 })
	first, err := n.dial("x")(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	if _, err := io.ReadFull(first, make([]byte, frame.HeaderSize)); err != nil {
		t.Fatalf("no greeting: %v", err)
	}
	second, err := n.dial("x")(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if n, err := io.Copy(io.Discard, second); n != 0 {
		t.Errorf("the second connection was greeted: %d bytes, %v", n, err)
	}
}
