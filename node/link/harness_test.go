package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network lets links in one process reach each other by node id. A connection
// begins with the dialler's id, which is what mTLS does in a real node.
type network struct {
	mu        sync.Mutex
	addresses map[state.NodeID]string
	open      map[state.NodeID][]net.Conn // by the node dialled
	// wrap changes a connection on the dialler's side.
	wrap func(net.Conn) net.Conn
	cut  bool // refuse to dial
}

func newNetwork() *network {
	return &network{addresses: map[state.NodeID]string{}, open: map[state.NodeID][]net.Conn{}}
}

func (n *network) dial(from state.NodeID) func(context.Context, state.NodeID) (net.Conn, error) {
	return func(ctx context.Context, to state.NodeID) (net.Conn, error) {
		n.mu.Lock()
		address, wrap, cut := n.addresses[to], n.wrap, n.cut
		n.mu.Unlock()
		if cut || address == "" {
			return nil, errors.New("no route")
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		if _, err := c.Write(append([]byte{byte(len(from))}, from...)); err != nil {
			return nil, err
		}
		if wrap != nil {
			c = wrap(c)
		}
		n.mu.Lock()
		n.open[to] = append(n.open[to], c)
		n.mu.Unlock()
		return c, nil
	}
}

// setCut makes dialling fail or work, and breaks what is open when it fails.
func (n *network) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
	if !cut {
		return
	}
	for _, conns := range n.open {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	clear(n.open)
}

func peerID(c net.Conn) (state.NodeID, error) {
	var size [1]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return "", err
	}
	id := make([]byte, size[0])
	_, err := io.ReadFull(c, id)
	return state.NodeID(id), err
}

// start runs a link until the test ends.
func (n *network) start(t testing.TB, id state.NodeID, handler Handler, change ...func(*Config)) *Link {
	t.Helper()
	l, _ := n.startStoppable(t, id, handler, change...)
	return l
}

func (n *network) startStoppable(t testing.TB, id state.NodeID, handler Handler, change ...func(*Config)) (*Link, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.addresses[id] = listener.Addr().String()
	n.mu.Unlock()
	cfg := DefaultConfig()
	cfg.Self, cfg.Dial, cfg.Listener, cfg.PeerID, cfg.Handler = id, n.dial(id), listener, peerID, handler
	cfg.BackoffMax = 100 * time.Millisecond
	cfg.Logger = zerolog.Nop()
	for _, f := range change {
		f(&cfg)
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	waitFor(t, func() error {
		l.mu.RLock()
		defer l.mu.RUnlock()
		if l.ctx == nil {
			return errors.New("not running")
		}
		return nil
	})
	return l, stop
}

// echo answers with the body, and a load that names the hops.
func echo(_ context.Context, _ state.NodeID, c *Call) (*Reply, error) {
	return &Reply{
		Result: frame.Result{ContentType: c.ContentType},
		Body:   c.Body,
		Load:   &scheduler.Load{InFlight: int(c.Hops), Free: 3, Instances: 4, Idle: 1},
	}, nil
}

// states records what OnState said.
type states struct {
	mu  sync.Mutex
	all []string
}

func (s *states) record(node state.NodeID, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprintf("%s:%v", node, up))
}

func (s *states) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return ""
	}
	return s.all[len(s.all)-1]
}

func (s *states) wait(t testing.TB, want string) {
	t.Helper()
	waitFor(t, func() error {
		if got := s.last(); got != want {
			return fmt.Errorf("last state is %q, want %q", got, want)
		}
		return nil
	})
}

// waitFor polls until check is content.
func waitFor(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not after 10 s: %v", err)
		}
		<-time.After(time.Millisecond)
	}
}

func newCall(body string) *Call {
	return &Call{Invoke: frame.Invoke{RequestID: "01J", App: "default", Function: "f", Version: 1, Attempt: 1}, Hops: 1, Body: []byte(body)}
}

// counter counts the calls that a handler saw.
type counter struct{ n atomic.Int64 }

func (c *counter) wrap(h Handler) Handler {
	return func(ctx context.Context, from state.NodeID, call *Call) (*Reply, error) {
		c.n.Add(1)
		return h(ctx, from, call)
	}
}
