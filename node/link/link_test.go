package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

func TestCallCarriesEverythingBothWays(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	want := Reply{
		Result:  frame.Result{ContentType: "text/plain", Status: 201, Attributes: frame.Attributes{{Name: "k", Value: "v"}}},
		Body:    []byte("output"),
		Cold:    true,
		Load:    &scheduler.Load{InFlight: 1, Queued: 2, Free: 3, Instances: 4, Starting: 5, Idle: 6, Full: true},
		Steps:   []Step{{"queue", time.Millisecond}, {"run", 2 * time.Millisecond}},
		Usage:   Usage{Billed: time.Second, Init: 2, CPU: 3 * time.Microsecond, MemoryLimit: 4, MemoryPeak: 5, BytesIn: 6, BytesOut: 7},
		LogTail: []byte("a line"),
	}
	want.Usage.Init = 2 * time.Microsecond
	var got Call
	var from state.NodeID
	n.start(t, "b", func(_ context.Context, id state.NodeID, c *Call) (*Reply, error) {
		got, from = *c, id
		got.Body = bytes.Clone(c.Body)
		got.Deadline = time.Time{} // does not travel
		r := want
		return &r, nil
	})
	a := n.start(t, "a", echo)

	call := newCall("input")
	call.Remaining, call.Trace, call.Depth, call.WantLogs = time.Second, "00-1", 3, true
	call.Attributes = frame.Attributes{{Name: "path", Value: "/x"}}
	reply, err := a.Call(t.Context(), "b", call)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if from != "a" {
		t.Errorf("the handler saw node %q, want a", from)
	}
	if diff := cmp.Diff(*call, got); diff != "" {
		t.Errorf("call differs (-sent +served):\n%s", diff)
	}
	opts := cmp.FilterPath(func(p cmp.Path) bool {
		switch p.Last().String() {
		case ".load", ".release", ".answer", ".lane", ".from":
			return true
		}
		return false
	}, cmp.Ignore())
	if diff := cmp.Diff(want, *reply, opts); diff != "" {
		t.Errorf("reply differs (-served +got):\n%s", diff)
	}
}

func TestBodiesOfAllSizesArriveWhole(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", echo)
	a := n.start(t, "a", echo)
	var callers sync.WaitGroup
	for _, size := range []int{0, 1, 100, 32<<10 - 1, 32 << 10, 1 << 20, 1<<20 + 1, 6 << 20} {
		for range 3 {
			callers.Go(func() {
				body := bytes.Repeat([]byte{byte(size), 7, 9}, size/3+1)[:size]
				call := newCall("")
				call.Body = body
				reply, err := a.Call(t.Context(), "b", call)
				if err != nil {
					t.Errorf("%d bytes: %v", size, err)
					return
				}
				defer reply.Release()
				if !bytes.Equal(reply.Body, body) {
					t.Errorf("%d bytes came back as %d others", size, len(reply.Body))
				}
			})
		}
	}
	callers.Wait()
}

func TestBodyOverTheLimitIsRefusedHere(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", echo)
	a := n.start(t, "a", echo, func(c *Config) { c.BodyMax = 10 })
	_, err := a.Call(t.Context(), "b", newCall("eleven byte"))
	if !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want ErrTooLarge that did not start", err)
	}
}

func TestRefusalCarriesTheLoad(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", func(context.Context, state.NodeID, *Call) (*Reply, error) {
		return &Reply{Load: &scheduler.Load{Queued: 9, Full: true}}, executor.ErrQueueFull
	})
	a := n.start(t, "a", echo)
	reply, err := a.Call(t.Context(), "b", newCall("x"))
	if !errors.Is(err, executor.ErrQueueFull) || !errors.Is(err, ErrNotStarted) {
		t.Fatalf("got %v, want ErrQueueFull", err)
	}
	defer reply.Release()
	if reply == nil || reply.Load == nil || !reply.Load.Full || reply.Load.Queued != 9 {
		t.Errorf("the refusal came without the load: %+v", reply)
	}
}

func TestCancelReachesTheHandler(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	started, cancelled := make(chan struct{}), make(chan error, 1)
	n.start(t, "b", func(ctx context.Context, _ state.NodeID, _ *Call) (*Reply, error) {
		close(started)
		<-ctx.Done()
		cancelled <- ctx.Err()
		return nil, ctx.Err()
	})
	a := n.start(t, "a", echo)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	_, err := a.Call(ctx, "b", newCall("x"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want cancelled with an unknown outcome", err)
	}
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
}

func TestDeadlineTravelsAsRemainingTime(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	var remaining time.Duration
	n.start(t, "b", func(_ context.Context, _ state.NodeID, c *Call) (*Reply, error) {
		remaining = c.Remaining
		if left := time.Until(c.Deadline); left > time.Minute || left < 50*time.Second {
			t.Errorf("the handler's deadline is in %v", left)
		}
		return &Reply{}, nil
	})
	a := n.start(t, "a", echo)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	call := newCall("x")
	reply, err := a.Call(ctx, "b", call)
	if err != nil {
		t.Fatal(err)
	}
	reply.Release()
	if remaining > time.Minute || remaining < 50*time.Second {
		t.Errorf("remaining is %v, want just under a minute", remaining)
	}
	if call.Remaining != 0 {
		t.Errorf("the caller's call was changed: remaining %v", call.Remaining)
	}
}

func TestNobodyWaitsLongerThanTheDeadline(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	cancelled := make(chan error, 1)
	n.start(t, "b", func(ctx context.Context, _ state.NodeID, _ *Call) (*Reply, error) {
		<-ctx.Done()
		cancelled <- ctx.Err()
		return nil, ctx.Err()
	})
	a := n.start(t, "a", echo)
	call := newCall("x")
	call.Remaining, call.Deadline = time.Minute, time.Now().Add(300*time.Millisecond)
	_, err := a.Call(t.Context(), "b", call)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want a deadline with an unknown outcome", err)
	}
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
}

func TestTimeoutOfTheOtherSideIsItsOwnError(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.start(t, "b", func(_ context.Context, _ state.NodeID, c *Call) (*Reply, error) {
		<-time.After(time.Until(c.Deadline))
		return nil, executor.ErrTimeout
	})
	a := n.start(t, "a", echo)
	call := newCall("x")
	call.Remaining = 5 * time.Millisecond
	_, err := a.Call(t.Context(), "b", call)
	if !errors.Is(err, executor.ErrTimeout) || errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
}

// slowStream yields n pieces and then err.
type slowStream struct {
	n      int
	err    error
	closed chan struct{}
}

func (s *slowStream) Read(b []byte) (int, error) {
	if s.n == 0 {
		return 0, s.err
	}
	s.n--
	return copy(b, strings.Repeat("s", 64<<10)), nil
}

func (s *slowStream) Close() error {
	close(s.closed)
	return nil
}

func TestStreamsFlowAndEnd(t *testing.T) {
	t.Parallel()
	boom := &plugins.FunctionError{Type: "Boom", Message: "half-way"}
	for _, tc := range []struct {
		name string
		end  error
	}{{"well", io.EOF}, {"with a function error", boom}, {"with a refusal", executor.ErrQueueFull}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork()
			closed := make(chan struct{})
			n.start(t, "b", func(context.Context, state.NodeID, *Call) (*Reply, error) {
				return &Reply{Stream: &slowStream{n: 100, err: tc.end, closed: closed}}, nil
			})
			a := n.start(t, "a", echo)
			reply, err := a.Call(t.Context(), "b", newCall("x"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.Copy(io.Discard, reply.Stream)
			if want := int64(100 * streamBuffer); got != want {
				t.Errorf("read %d bytes, want %d", got, want)
			}
			if errors.Is(err, ErrNotStarted) {
				t.Errorf("a stream that began is said not to have started: %v", err)
			}
			if fe, ok := errors.AsType[*plugins.FunctionError](err); errors.Is(tc.end, boom) && (!ok || fe.Type != "Boom") {
				t.Errorf("stream ended with %v, want the function's error", err)
			}
			if (err == nil) != errors.Is(tc.end, io.EOF) {
				t.Errorf("stream ended with %v after %v", err, tc.end)
			}
			reply.Release()
			<-closed
		})
	}
}

func TestStreamGivenUpIsCancelledThere(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	closed := make(chan struct{})
	n.start(t, "b", func(context.Context, state.NodeID, *Call) (*Reply, error) {
		return &Reply{Stream: &slowStream{n: 1 << 30, err: io.EOF, closed: closed}}, nil
	})
	a := n.start(t, "a", echo)
	reply, err := a.Call(t.Context(), "b", newCall("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(reply.Stream, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	reply.Release()
	<-closed
	if got := a.peers["b"].inFlight.Load(); got != 0 {
		t.Errorf("%d calls are still counted", got)
	}
}

func TestTooManyCallsAreRefused(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	hold := make(chan struct{})
	var seen counter
	n.start(t, "b", seen.wrap(func(ctx context.Context, _ state.NodeID, _ *Call) (*Reply, error) {
		<-hold
		return &Reply{}, nil
	}))
	a := n.start(t, "a", echo, func(c *Config) { c.InFlightMax = 2 })
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			if r, err := a.Call(t.Context(), "b", newCall("x")); err != nil {
				t.Error(err)
			} else {
				r.Release()
			}
		})
	}
	waitFor(t, func() error {
		if seen.n.Load() < 2 {
			return errors.New("not both serving")
		}
		return nil
	})
	if _, err := a.Call(t.Context(), "b", newCall("x")); !errors.Is(err, ErrBusy) || !errors.Is(err, ErrNotStarted) {
		t.Errorf("third call: got %v, want ErrBusy", err)
	}
	close(hold)
	callers.Wait()
}

func TestDrainingIsToldAndTakenBack(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	b := n.start(t, "b", echo)
	var st states
	a := n.start(t, "a", echo, func(c *Config) { c.OnState = st.record })
	mustCall(t, a, "b")
	st.wait(t, "b:true")
	b.Drain(true)
	st.wait(t, "b:false")
	if _, err := a.Call(t.Context(), "b", newCall("x")); !errors.Is(err, ErrDraining) || !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want ErrDraining", err)
	}
	b.Drain(false)
	st.wait(t, "b:true")
	mustCall(t, a, "b")
}

func mustCall(t testing.TB, l *Link, node state.NodeID) {
	t.Helper()
	reply, err := l.Call(t.Context(), node, newCall("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if string(reply.Body) != "hello" {
		t.Fatalf("got %q", reply.Body)
	}
}
