package plugins

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// instance is the other end of a Conn: what an SDK does, as little of it as a test needs.
type instance struct {
	t       *testing.T
	socket  *frame.Socket
	session *frame.Session
	wg      sync.WaitGroup

	greeting frame.Greeting // sent by hello
	lanes    atomic.Int64   // opened so far
}

// connect makes a Conn and an instance that has said nothing yet.
func connect(t *testing.T, cfg ConnConfig, handler func(*frame.Incoming)) (*Conn, *instance) {
	t.Helper()
	local, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	remote, err := frame.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{t: t, greeting: frame.Greeting{Least: 1, Greatest: 1, Window: 1 << 20, Agent: "test"}}
	if i.socket, err = frame.NewSocket(remote, true); err != nil {
		t.Fatal(err)
	}
	config := frame.SessionConfig{Handler: handler, Direct: true}
	config.Control = func(h frame.Header, _ []byte) error {
		if h.Flags&frame.FlagLane != 0 {
			i.openLane(handler)
		}
		if h.Type == frame.Drain {
			i.session.Drain()
		}
		return nil
	}
	i.session = frame.NewSession(i.socket, config)
	c := NewConn(local, cfg)
	t.Cleanup(func() {
		i.exit()
		i.wg.Wait()
		_ = c.Close()
	})
	return c, i
}

func (i *instance) openLane(handler func(*frame.Incoming)) {
	i.lanes.Add(1)
	conn, err := frame.FileConn(i.socket.TakeFile())
	if err != nil {
		i.t.Error(err)
		return
	}
	lane := frame.NewSession(conn, frame.SessionConfig{Handler: handler, Lane: true})
	i.wg.Go(func() { _ = lane.Run() })
	i.wg.Go(func() {
		<-i.session.Done()
		_ = lane.Close()
	})
}

func (i *instance) hello() {
	_ = i.session.Send(frame.Hello, &i.greeting, nil)
}

// ready says HELLO and READY and begins to read.
func (i *instance) ready() {
	i.hello()
	_ = i.session.Send(frame.Ready, nil, nil)
	i.wg.Go(func() { _ = i.session.Run() })
}

// exit is the end of the process.
func (i *instance) exit() {
	_ = i.session.Close()
	_ = i.socket.Close()
}

func echo(in *frame.Incoming) {
	_ = in.Answer(frame.ResultReply, &frame.Result{ContentType: "text/plain"}, in.Body())
}

// invoke runs one call and returns its body.
func invoke(t *testing.T, c *Conn, body []byte) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reply, err := c.Invoke(ctx, &Call{Body: body})
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	return bytes.Clone(reply.Body), nil
}

func TestInvokeOverBothKindsOfConnection(t *testing.T) {
	t.Parallel()
	c, i := connect(t, ConnConfig{}, echo)
	i.ready()
	if hello, err := c.Ready(t.Context()); err != nil || hello.Agent != "test" {
		t.Fatalf("Ready: %+v, %v", hello, err)
	}
	var wg sync.WaitGroup
	for _, size := range []int{0, 100, laneBody - 1, laneBody, 6 << 20} {
		for range 3 {
			wg.Go(func() {
				got, err := invoke(t, c, make([]byte, size))
				if err != nil || len(got) != size {
					t.Errorf("%d bytes: got %d, %v", size, len(got), err)
				}
			})
		}
	}
	wg.Wait()
	if c.InFlight() != 0 {
		t.Errorf("%d calls in flight afterwards", c.InFlight())
	}
}

func TestInstanceMayTakeNoLanes(t *testing.T) {
	t.Parallel()
	c, i := connect(t, ConnConfig{}, echo)
	// Until HELLO it is unknown, and the first connection does for that one.
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := invoke(t, c, make([]byte, 6<<20)); err != nil || len(got) != 6<<20 {
			t.Errorf("before HELLO: got %d bytes, %v", len(got), err)
		}
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); c.InFlight() == 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the call is not on the first connection")
		}
	}
	i.greeting.Attributes = frame.Attributes{{Name: frame.LanesAttribute, Value: frame.NoLanes}}
	i.ready()
	wg.Wait()
	if got, err := invoke(t, c, make([]byte, 6<<20)); err != nil || len(got) != 6<<20 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if i.lanes.Load() != 0 {
		t.Error("a lane was opened")
	}
}

func TestInvokeBeforeReadyWaits(t *testing.T) {
	t.Parallel()
	c, i := connect(t, ConnConfig{}, echo)
	var wg sync.WaitGroup
	for _, size := range []int{10, laneBody} {
		wg.Go(func() {
			if got, err := invoke(t, c, make([]byte, size)); err != nil || len(got) != size {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	i.ready()
	wg.Wait()
}

// TestEndBeforeReadyDidNotStart covers the ways in which an instance does not get ready. The calls were
// written whole, and still certainly did not start.
func TestEndBeforeReadyDidNotStart(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		end  func(*instance)
		init bool // an *InitError is wanted, else an *ExitError
	}{
		{name: "at once", end: func(*instance) {}},
		{name: "after hello", end: (*instance).hello},
		{name: "initialisation failed", init: true, end: func(i *instance) {
			i.hello()
			_ = i.session.Send(frame.ErrorReply, nil, (&frame.Failure{Kind: frame.KindInit, Type: "NoNest"}).AppendTo(nil))
		}},
		{name: "other version", init: true, end: func(i *instance) {
			_ = i.session.Send(frame.Hello, &frame.Greeting{Least: 7, Greatest: 9}, nil)
		}},
		{name: "ready without hello", end: func(i *instance) { _ = i.session.Send(frame.Ready, nil, nil) }},
	}
	for _, tc := range cases {
		for _, size := range []int{10, laneBody} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				c, i := connect(t, ConnConfig{}, echo)
				var wg sync.WaitGroup
				errs := make([]error, 2)
				wg.Go(func() { _, errs[0] = invoke(t, c, make([]byte, size)) })
				wg.Go(func() { _, errs[1] = c.Ready(t.Context()) })
				tc.end(i)
				i.session.Flush()
				i.exit()
				wg.Wait()
				for _, err := range errs {
					_, isInit := errors.AsType[*InitError](err)
					_, isExit := errors.AsType[*ExitError](err)
					if !errors.Is(err, ErrNotStarted) || isInit != tc.init || isExit == tc.init {
						t.Errorf("got %v (%T)", err, err)
					}
				}
			})
		}
	}
}

// TestReadyIsReadBeforeTheEnd is the narrow case: the instance dies with READY on its way, so that writes to it
// fail while READY is still to be read. Whoever overlooked it would say of a call in flight that it did not start.
func TestReadyIsReadBeforeTheEnd(t *testing.T) {
	t.Parallel()
	for range 50 {
		c, i := connect(t, ConnConfig{}, echo)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := invoke(t, c, []byte("x"))
			if _, ok := errors.AsType[*ExitError](err); !ok {
				t.Errorf("Invoke: %v, want an *ExitError", err)
			}
		})
		i.hello()
		_ = i.session.Send(frame.Ready, nil, nil)
		i.exit()
		if _, err := c.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v", err)
		}
		wg.Wait()
	}
}

func TestExitMidCallIsUnknown(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, laneBody} {
		started := make(chan struct{})
		c, i := connect(t, ConnConfig{}, func(in *frame.Incoming) {
			close(started)
			<-in.Context().Done()
		})
		i.ready()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := invoke(t, c, make([]byte, size))
			if _, ok := errors.AsType[*ExitError](err); !ok || errors.Is(err, ErrNotStarted) || errors.Is(err, ErrClosed) {
				t.Errorf("%d bytes: got %v, want an *ExitError of unknown outcome", size, err)
			}
		})
		<-started
		i.exit()
		wg.Wait()
		<-c.Done()
		if _, err := invoke(t, c, nil); !errors.Is(err, ErrNotStarted) {
			t.Errorf("the next call: %v, want ErrNotStarted", err)
		}
	}
}

func TestCloseIsNotTheInstancesFault(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	c, i := connect(t, ConnConfig{}, func(in *frame.Incoming) {
		close(started)
		<-in.Context().Done()
	})
	i.ready()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := invoke(t, c, nil)
		if _, ok := errors.AsType[*ExitError](err); ok || !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	<-started
	_ = c.Close()
	_ = c.Close()
	wg.Wait()
}

func TestAnswersBecomeErrors(t *testing.T) {
	t.Parallel()
	c, i := connect(t, ConnConfig{}, func(in *frame.Incoming) {
		switch string(in.Body()) {
		case "function":
			_ = in.Fail(nil, &frame.Failure{Type: "NotFound", Message: "no bird"})
		case "panic":
			_ = in.Fail(nil, &frame.Failure{Kind: frame.KindUnhandled, Type: "Panic", Stack: "here"})
		case "refused":
			_ = in.Refuse(nil, &frame.Refusal{Code: "full", RetryAfter: time.Second})
		case "nonsense":
			_ = in.Answer(frame.HostReply, nil, nil)
		}
	})
	i.ready()
	_, err := invoke(t, c, []byte("function"))
	if f, ok := errors.AsType[*FunctionError](err); !ok || *f != (FunctionError{Type: "NotFound", Message: "no bird"}) {
		t.Errorf("function: %v", err)
	}
	_, err = invoke(t, c, []byte("panic"))
	if f, ok := errors.AsType[*FunctionError](err); !ok || !f.Unhandled || f.Stack != "here" {
		t.Errorf("panic: %v", err)
	}
	_, err = invoke(t, c, []byte("refused"))
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.RetryAfter != time.Second || !errors.Is(err, ErrNotStarted) {
		t.Errorf("refused: %v", err)
	}
	if _, err = invoke(t, c, []byte("nonsense")); err == nil || errors.Is(err, ErrNotStarted) {
		t.Errorf("nonsense: %v", err)
	}
}

func TestRemainingIsTheLesserOfCallAndContext(t *testing.T) {
	t.Parallel()
	seen := make(chan time.Duration, 1)
	c, i := connect(t, ConnConfig{}, func(in *frame.Incoming) {
		var head frame.Invoke
		if err := head.Parse(in.Head()); err != nil {
			t.Error(err)
		}
		seen <- head.Remaining
		echo(in)
	})
	i.ready()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for own, most := range map[time.Duration]time.Duration{0: time.Minute, time.Second: time.Second, time.Hour: time.Minute} {
		call := &Call{}
		call.Remaining = own
		reply, err := c.Invoke(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		if reply.ContentType != "text/plain" {
			t.Errorf("content type %q", reply.ContentType)
		}
		reply.Release()
		if got := <-seen; got <= most-10*time.Second || got > most {
			t.Errorf("call with %v in a context of a minute says that %v remain", own, got)
		}
	}
}

func TestStreamErrorsAreNamed(t *testing.T) {
	t.Parallel()
	c, i := connect(t, ConnConfig{}, func(in *frame.Incoming) {
		w, err := in.Stream(frame.ResultReply, &frame.Result{ContentType: "text/plain"})
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write([]byte("some"))
		if string(in.Body()) == "fail" {
			_ = w.Fail(&frame.Failure{Type: "Torn"})
			return
		}
		<-in.Context().Done()
	})
	i.ready()
	read := func(body []byte, meanwhile func()) error {
		reply, err := c.Invoke(t.Context(), &Call{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Release()
		defer reply.Stream.Close()
		if reply.ContentType != "text/plain" {
			t.Errorf("content type %q", reply.ContentType)
		}
		if _, err := io.ReadFull(reply.Stream, make([]byte, 4)); err != nil {
			t.Error(err)
		}
		meanwhile()
		_, err = io.ReadAll(reply.Stream)
		return err
	}
	if f, ok := errors.AsType[*FunctionError](read([]byte("fail"), func() {})); !ok || f.Type != "Torn" {
		t.Errorf("got %v, want the function's error", f)
	}
	// Behind a large body the stream rides on a lane, which must come back when it is closed.
	if _, ok := errors.AsType[*ExitError](read(make([]byte, laneBody), i.exit)); !ok {
		t.Error("the end of the instance is not named")
	}
}

func TestHostCalls(t *testing.T) {
	t.Parallel()
	released := make(chan struct{}, 1)
	host := func(ctx context.Context, call *HostCall) (*HostReply, error) {
		switch call.Target {
		case "good":
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the host call has no deadline")
			}
			return &HostReply{Body: append([]byte("re: "), call.Body...), Release: func() { released <- struct{}{} }}, nil
		case "refused":
			return nil, &RefusedError{Code: "queue_full", RetryAfter: time.Second}
		case "function":
			return nil, &FunctionError{Type: "NotFound", Unhandled: true}
		}
		return nil, errors.New("no such target")
	}
	c, i := connect(t, ConnConfig{Host: host}, echo)
	i.ready()
	if _, err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask := func(target string) frame.Answer {
		t.Helper()
		request := &frame.HostRequest{RequestID: "r", Op: OpInvoke, Target: target, Remaining: time.Minute}
		answer, err := i.session.Call(t.Context(), frame.HostCallRequest, request, []byte("hi"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(answer.Release)
		return answer
	}
	if a := ask("good"); a.Type != frame.HostReply || string(a.Body) != "re: hi" {
		t.Errorf("good: %s %q", a.Type, a.Body)
	}
	<-released
	var r frame.Refusal
	if a := ask("refused"); a.Type != frame.RefusedReply || r.Parse(a.Body) != nil || r.Code != "queue_full" {
		t.Errorf("refused: %s %+v", a.Type, r)
	}
	var f frame.Failure
	if a := ask("function"); a.Type != frame.ErrorReply || f.Parse(a.Body) != nil || f.Kind != frame.KindUnhandled || f.Type != "NotFound" {
		t.Errorf("function: %s %+v", a.Type, f)
	}
	if a := ask("other"); a.Type != frame.ErrorReply || f.Parse(a.Body) != nil || f.Kind != frame.KindPlatform {
		t.Errorf("other: %s %+v", a.Type, f)
	}
}

// TestFunctionCannotInvokeOnTheNode sends an INVOKE in the wrong direction.
func TestFunctionCannotInvokeOnTheNode(t *testing.T) {
	t.Parallel()
	called := false
	c, i := connect(t, ConnConfig{Host: func(context.Context, *HostCall) (*HostReply, error) {
		called = true
		return &HostReply{}, nil
	}}, echo)
	i.ready()
	if _, err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer, err := i.session.Call(t.Context(), frame.InvokeCall, &frame.Invoke{}, nil)
	if err != nil || answer.Type != frame.ErrorReply || called {
		t.Errorf("got %s, %v; the handler ran: %v", answer.Type, err, called)
	}
	answer.Release()
}

func TestDrainRefusesFurtherCalls(t *testing.T) {
	t.Parallel()
	c, i := connect(t, ConnConfig{}, echo)
	i.ready()
	if _, err := invoke(t, c, make([]byte, laneBody)); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain(); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{10, laneBody} {
		if _, err := invoke(t, c, make([]byte, size)); !errors.Is(err, ErrNotStarted) {
			t.Errorf("%d bytes: got %v, want ErrNotStarted", size, err)
		}
	}
	if err := i.session.Send(frame.Drain, nil, nil); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !c.Draining(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the instance's DRAIN did not arrive")
		}
	}
}

func TestClosedConnectionIsAnError(t *testing.T) {
	t.Parallel()
	local, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	_ = local.Close()
	c := NewConn(local, ConnConfig{})
	defer c.Close()
	if _, err := c.Ready(t.Context()); !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v", err)
	}
	if _, err := net.FileConn(file); err == nil {
		t.Error("the file is still open")
	}
}
