package frame

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// run starts a session on c and ends it with the test.
func run(t testing.TB, c net.Conn, cfg SessionConfig) *Session {
	t.Helper()
	s := NewSession(c, cfg)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run() })
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return s
}

// sockets connects two Unix sockets.
func sockets(t testing.TB) (a, b *Socket) {
	t.Helper()
	c, f, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	d, err := FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewSocket(c, false); err != nil {
		t.Fatal(err)
	}
	if b, err = NewSocket(d, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

// pair connects two sessions by a Unix socket pair.
func pair(t testing.TB, client, server SessionConfig) (c, s *Session) {
	t.Helper()
	a, b := sockets(t)
	return run(t, a, client), run(t, b, server)
}

// echo answers with head and body of the call.
func echo(in *Incoming) {
	_ = in.Answer(ResultReply, Raw(in.Head()), in.Body())
}

// eventually polls check until it succeeds.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

func TestCallEchoes(t *testing.T) {
	t.Parallel()
	configs := map[string]SessionConfig{"copying": {}, "direct": {Direct: true}, "lane": {Lane: true}}
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := cfg
			server.Handler = echo
			client, _ := pair(t, cfg, server)
			for _, size := range []int{0, 1, 100, 64 << 10, MaxPayload - 2, MaxPayload, 5<<20 + 7} {
				body := bytes.Repeat([]byte("covey"), size/5+1)[:size]
				answer, err := client.Call(t.Context(), InvokeCall, Raw("hi"), body)
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if answer.Type != ResultReply || string(answer.Head) != "hi" || !bytes.Equal(answer.Body, body) {
					t.Errorf("%d bytes: got %s, head %q, %d bytes", size, answer.Type, answer.Head, len(answer.Body))
				}
				answer.Release()
			}
		})
	}
}

func TestCallsRunAtOnce(t *testing.T) {
	t.Parallel()
	const n = 64
	var barrier sync.WaitGroup
	barrier.Add(n)
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		barrier.Done()
		barrier.Wait()
		echo(in)
	}})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			body := fmt.Appendf(nil, "call %d", i)
			answer, err := client.Call(t.Context(), InvokeCall, nil, body)
			if err != nil || !bytes.Equal(answer.Body, body) {
				t.Errorf("call %d: got %q, %v", i, answer.Body, err)
			}
			answer.Release()
		})
	}
	wg.Wait()
	if got := client.InFlight(); got != 0 {
		t.Errorf("%d calls in flight afterwards", got)
	}
}

func TestCallsGoBothWays(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{Handler: echo}, SessionConfig{Handler: func(in *Incoming) {
		answer, err := in.s.Call(in.Context(), HostCallRequest, nil, in.Body())
		if err != nil {
			_ = in.Fail(nil, &Failure{Message: err.Error()})
			return
		}
		defer answer.Release()
		_ = in.Answer(ResultReply, nil, append([]byte("re: "), answer.Body...))
	}})
	answer, err := client.Call(t.Context(), InvokeCall, nil, []byte("hi"))
	if err != nil || string(answer.Body) != "re: hi" {
		t.Errorf("got %q, %v", answer.Body, err)
	}
	answer.Release()
}

func TestCancelReachesHandler(t *testing.T) {
	t.Parallel()
	started, ended := make(chan struct{}), make(chan error, 1)
	client, server := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		close(started)
		<-in.Context().Done()
		ended <- in.Context().Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := client.Call(ctx, InvokeCall, nil, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want context.Canceled alone", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}
	eventually(t, func() error {
		if n := server.Serving(); n != 0 {
			return fmt.Errorf("%d calls are still served", n)
		}
		return nil
	})
}

// TestCallLeavesPeerThatDoesNotRead is about a frozen process: its socket is full, and callers must still
// keep their deadlines.
func TestCallLeavesPeerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]SessionConfig{"shared": {}, "lane": {Lane: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _ := sockets(t)
			client := run(t, a, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := client.Call(ctx, InvokeCall, nil, make([]byte, 4<<20))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the deadline", err)
			}
		})
	}
}

func TestRefusalsDoNotStart(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		server SessionConfig
		before func(t *testing.T, client, server *Session)
		body   int
		code   string
	}{
		{name: "no handler", code: RefusedBusy},
		{name: "draining", server: SessionConfig{Handler: echo}, before: func(_ *testing.T, _, s *Session) { s.Drain() }, code: RefusedDraining},
		{name: "too large", server: SessionConfig{Handler: echo, MaxBody: 2 << 20}, body: 3 << 20, code: RefusedTooLarge},
		{
			name:   "busy",
			server: SessionConfig{Handler: func(in *Incoming) { <-in.Context().Done() }, MaxIncoming: 1},
			before: func(t *testing.T, c, s *Session) {
				_, _ = c.w.Message(Header{Type: InvokeCall, ID: 1 << 40}, nil, nil)
				eventually(t, func() error {
					if s.Serving() == 0 {
						return errors.New("the first call has not arrived")
					}
					return nil
				})
			},
			code: RefusedBusy,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, server := pair(t, SessionConfig{}, c.server)
			if c.before != nil {
				c.before(t, client, server)
			}
			answer, err := client.Call(t.Context(), InvokeCall, nil, make([]byte, c.body))
			if err != nil {
				t.Fatal(err)
			}
			var r Refusal
			if err := r.Parse(answer.Body); err != nil || answer.Type != RefusedReply || r.Code != c.code || !errors.Is(&r, ErrNotStarted) {
				t.Errorf("got %s %+v, %v", answer.Type, r, err)
			}
			answer.Release()
		})
	}
}

func TestTooLargeAnswerIsAnError(t *testing.T) {
	t.Parallel()
	limits := map[string][2]int{"at the sender": {0, 1 << 20}, "at the receiver": {1 << 20, 0}}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := pair(t, SessionConfig{MaxBody: limit[0]}, SessionConfig{MaxBody: limit[1], Handler: func(in *Incoming) {
				_ = in.Answer(ResultReply, nil, make([]byte, 2<<20))
			}})
			for range 2 { // The second call shows that the session survived the first.
				answer, err := client.Call(t.Context(), InvokeCall, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				var f Failure
				if err := f.Parse(answer.Body); err != nil || answer.Type != ErrorReply || f.Type != "ResponseTooLarge" {
					t.Errorf("got %s %+v, %v", answer.Type, f, err)
				}
				answer.Release()
			}
		})
	}
}

func TestHandlerWithoutAnswerFails(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(*Incoming) {}})
	answer, err := client.Call(t.Context(), InvokeCall, nil, nil)
	if err != nil || answer.Type != ErrorReply {
		t.Errorf("got %s, %v", answer.Type, err)
	}
	answer.Release()
}

func TestPeerGoneMidCallIsUnknown(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) { _ = in.s.Close() }})
	_, err := client.Call(t.Context(), InvokeCall, nil, nil)
	if !errors.Is(err, ErrClosed) || errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want ErrClosed without ErrNotStarted", err)
	}
	<-client.Done()
	if _, err := client.Call(t.Context(), InvokeCall, nil, nil); !errors.Is(err, ErrNotStarted) || !errors.Is(err, ErrClosed) {
		t.Errorf("the next call: %v, want ErrClosed and ErrNotStarted", err)
	}
}

// TestUnsentCallDidNotStart fills the socket of a peer that reads nothing and then ends it: the second call
// never left this process.
func TestUnsentCallDidNotStart(t *testing.T) {
	t.Parallel()
	a, b := sockets(t)
	client := run(t, a, SessionConfig{})
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, size := range []int{1, 4 << 20} {
		wg.Go(func() { _, errs[i] = client.Call(t.Context(), InvokeCall, nil, make([]byte, size)) })
		eventually(t, func() error {
			if n := client.InFlight(); n != i+1 {
				return fmt.Errorf("%d calls in flight, want %d", n, i+1)
			}
			return nil
		})
		if i == 0 {
			// The small call is in the socket before the large one follows it.
			eventually(t, func() error {
				client.w.mu.Lock()
				defer client.w.mu.Unlock()
				if client.w.flushed == 0 {
					return errors.New("nothing is written yet")
				}
				return nil
			})
		}
	}
	_ = b.Close()
	wg.Wait()
	if errors.Is(errs[0], ErrNotStarted) || !errors.Is(errs[0], ErrClosed) {
		t.Errorf("the call that was sent: %v", errs[0])
	}
	if !errors.Is(errs[1], ErrNotStarted) {
		t.Errorf("the call that was not: %v", errs[1])
	}
}

func TestHoldKeepsCallsWaiting(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 2)
	client, server := pair(t, SessionConfig{}, SessionConfig{Hold: true, Handler: func(in *Incoming) {
		ran <- struct{}{}
		echo(in)
	}})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			answer, err := client.Call(t.Context(), InvokeCall, nil, nil)
			if err != nil {
				t.Error(err)
			}
			answer.Release()
		})
	}
	eventually(t, func() error {
		if n := server.Serving(); n != 2 {
			return fmt.Errorf("%d calls arrived, want 2", n)
		}
		return nil
	})
	if len(ran) != 0 {
		t.Error("a handler ran before Admit")
	}
	server.Admit()
	wg.Wait()
}

func TestContextHasTimeout(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		in.SetTimeout(10 * time.Millisecond)
		ctx := in.Context()
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline")
		}
		// A derived context must follow, which the standard library does through Done and Value.
		derived, cancel := context.WithCancel(ctx)
		defer cancel()
		<-derived.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(derived.Err(), context.DeadlineExceeded) {
			t.Errorf("ended with %v, derived %v", ctx.Err(), derived.Err())
		}
		echo(in)
	}})
	answer, err := client.Call(t.Context(), InvokeCall, nil, nil)
	if err != nil {
		t.Error(err)
	}
	answer.Release()
}

func TestContextEndsLazily(t *testing.T) {
	t.Parallel()
	c := &callContext{deadline: time.Now().Add(-time.Second)}
	if !errors.Is(c.Err(), context.DeadlineExceeded) || c.inner != nil {
		t.Errorf("got %v", c.Err())
	}
	c = new(callContext)
	if c.Err() != nil || c.Value(c) != nil {
		t.Error("a new context has ended")
	}
	c.cancel(errBroken)
	c.cancel(errors.New("later"))
	if !errors.Is(c.Err(), context.Canceled) {
		t.Errorf("got %v", c.Err())
	}
	<-c.Done()
	if got := context.Cause(c); !errors.Is(got, errBroken) {
		t.Errorf("cause %v, want the first", got)
	}
}

func TestDeadlineEndsTheWait(t *testing.T) {
	t.Parallel()
	a, b := sockets(t)
	ended := make(chan error, 2)
	run(t, b, SessionConfig{Handler: func(in *Incoming) {
		if len(in.Body()) > 0 {
			w, err := in.Stream(ResultReply, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
		}
		<-in.Context().Done()
		ended <- in.Context().Err()
	}})
	client := run(t, a, SessionConfig{})
	for range 2 { // the second call reuses the timer
		_, err := client.CallUntil(t.Context(), time.Now().Add(10*time.Millisecond), InvokeCall, nil, nil)
		if _, ok := errors.AsType[*CanceledError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a cancelled call", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
	}
	answer, err := client.CallUntil(t.Context(), time.Now().Add(50*time.Millisecond), InvokeCall, nil, []byte("stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Release()
	defer answer.Stream.Close()
	if _, err := io.ReadAll(answer.Stream); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the stream ended with %v", err)
	}
	<-ended
}

// A goroutine that has served serves the next call too, unless its handler has
// ended it.
func TestHandlersShareGoroutines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := run(t, b, SessionConfig{Handler: func(in *Incoming) {
			if n := in.s.idle.Load(); n != 0 {
				t.Errorf("%d goroutines were idle during a call", n)
			}
			_ = in.Answer(ResultReply, nil, nil)
			if len(in.Body()) > 0 {
				runtime.Goexit()
			}
		}})
		client := run(t, a, SessionConfig{})
		for i, exits := range []bool{false, false, true, false, true, false} {
			var body []byte
			want := int64(1)
			if exits {
				body, want = []byte("exit"), 0
			}
			answer, err := client.Call(t.Context(), InvokeCall, nil, body)
			if err != nil {
				t.Fatal(err)
			}
			answer.Release()
			synctest.Wait()
			if n := server.idle.Load(); n != want {
				t.Errorf("after call %d %d goroutines are idle, want %d", i, n, want)
			}
		}
	})
}

func TestSessionLifeCycle(t *testing.T) {
	t.Parallel()
	t.Run("close before run", func(t *testing.T) {
		t.Parallel()
		a, _ := sockets(t)
		s := NewSession(a, SessionConfig{})
		_ = s.Close()
		_ = s.Close()
		if err := s.Run(); err != nil {
			t.Errorf("Run after Close: %v", err)
		}
	})
	t.Run("run ends with the peer", func(t *testing.T) {
		t.Parallel()
		a, b := sockets(t)
		s := NewSession(a, SessionConfig{})
		_ = b.Close()
		if err := s.Run(); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	t.Run("close waits for handlers", func(t *testing.T) {
		t.Parallel()
		a, b := sockets(t)
		client := run(t, a, SessionConfig{})
		started, finished := make(chan struct{}), false
		server := NewSession(b, SessionConfig{Handler: func(in *Incoming) {
			close(started)
			<-in.Context().Done()
			finished = true
		}})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = client.Call(t.Context(), InvokeCall, nil, nil) })
		wg.Go(func() {
			<-started
			_ = server.Close()
		})
		if err := server.Run(); err != nil || !finished {
			t.Errorf("Run returned %v, handler finished: %v", err, finished)
		}
		wg.Wait()
	})
}

// lastWords is a connection that ends right behind what was written to it.
type lastWords struct {
	net.Conn
	after func()
}

func (c *lastWords) Write(b []byte) (int, error) {
	defer c.after()
	return c.Conn.Write(b)
}

func TestSendThatArrivedIsNoError(t *testing.T) {
	t.Parallel()
	a, _ := sockets(t)
	conn := &lastWords{Conn: a}
	s := NewSession(conn, SessionConfig{})
	conn.after = func() { s.w.Fail(ErrClosed) }
	if err := s.Send(Drain, nil, nil); err != nil {
		t.Errorf("a frame that was written whole: %v", err)
	}
	if err := s.Send(Drain, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a frame behind the end: %v", err)
	}
}
