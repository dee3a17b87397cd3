package executor

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

type handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error)

// withHandler makes every instance run h.
func withHandler(h handler) func(*Config, *fakeLauncher) {
	return func(_ *Config, l *fakeLauncher) { l.handler = h }
}

// hang ignores its context, as a bad function does.
func hang(_ context.Context, f *fakeInstance, _ *plugins.Call) (*plugins.Reply, error) {
	<-f.gone
	return nil, plugins.ErrClosed
}

func TestTimeoutEndsTheInstanceFirst(t *testing.T) {
	cases := []struct {
		name     string
		timeout  time.Duration
		deadline time.Duration
		request  time.Duration
		want     time.Duration
	}{
		{"of the version", 2 * time.Second, time.Minute, 0, 2 * time.Second},
		{"of the caller", time.Minute, 3 * time.Second, 0, 3 * time.Second},
		{"of the request", time.Minute, time.Minute, 4 * time.Second, 4 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onFakes(t, withHandler(hang), func(t *testing.T, r *rig) {
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				defer cancel()
				began := time.Now()
				req := request("r")
				if c.request > 0 {
					req.Deadline = began.Add(c.request)
				}
				resp, err := r.Invoke(ctx, testSpec(func(s *Spec) { s.Timeout = c.timeout }), req)
				if n := r.l.living(); n != 0 {
					t.Errorf("%d instances when the timeout was reported", n)
				}
				if !errors.Is(err, ErrTimeout) || errors.Is(err, plugins.ErrNotStarted) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("took %v, want %v", took, c.want)
				}
				if resp == nil || resp.Usage.Billed < c.want || !resp.Usage.Failed {
					t.Errorf("usage of the timed-out call is %+v", resp)
				}
			})
		})
	}
}

func TestTimeoutOfOneCallIsTheExitOfOthersInTheInstance(t *testing.T) {
	onFakes(t, withHandler(hang), func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Concurrency, s.Timeout = 2, 10*time.Second })
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- r.call(short, spec, "short") }()
		go func() { second <- r.call(t.Context(), spec, "long") }()
		if err := <-first; !errors.Is(err, ErrTimeout) {
			t.Errorf("the call that timed out got %v", err)
		}
		if err := <-second; !isExit(err) || errors.Is(err, ErrTimeout) {
			t.Errorf("the other one got %v", err)
		}
	})
}

func TestCrashFailsOnlyTheCallsOfTheInstance(t *testing.T) {
	onFakes(t, withHandler(func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
		if call.RequestID == "bad" {
			f.exit(sandbox.State{Code: 3})
		}
		<-time.After(time.Second)
		return echo(ctx, f, call)
	}), func(t *testing.T, r *rig) {
		good, bad := make(chan error, 1), make(chan error, 1)
		go func() { good <- r.call(t.Context(), testSpec(), "good") }()
		go func() { bad <- r.call(t.Context(), testSpec(), "bad") }()
		err := <-bad
		if !isExit(err) {
			t.Errorf("the call that crashed got %v", err)
		}
		exit, ok := errors.AsType[*Exit](err)
		if !ok || exit.Code != 3 || !strings.Contains(exit.Error(), "code 3") {
			t.Errorf("how it ended is %+v", exit)
		}
		if err := <-good; err != nil {
			t.Errorf("the other instance's call got %v", err)
		}
		if err := r.call(t.Context(), testSpec(), "again"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A process that dies between two calls costs nobody anything, even when a call
// gets to it before its supervisor has seen the end.
func TestDeathOfAnIdleInstanceIsNotSeenByCallers(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		for range 20 {
			if err := r.call(t.Context(), testSpec(), "r"); err != nil {
				t.Fatal(err)
			}
			for _, f := range r.l.instances() {
				f.exit(sandbox.State{Code: 1})
			}
		}
	})
}

func TestFunctionErrorLeavesTheInstanceWarm(t *testing.T) {
	onFakes(t, withHandler(func(context.Context, *fakeInstance, *plugins.Call) (*plugins.Reply, error) {
		return nil, &plugins.FunctionError{Type: "Bad", Message: "no"}
	}), func(t *testing.T, r *rig) {
		for range 3 {
			resp, err := r.Invoke(t.Context(), testSpec(), request("r"))
			if _, ok := errors.AsType[*plugins.FunctionError](err); !ok {
				t.Fatalf("got %v", err)
			}
			if !resp.Usage.Failed || resp.Instance == "" {
				t.Errorf("response beside the error is %+v", resp)
			}
		}
		if n := len(r.l.instances()); n != 1 {
			t.Errorf("%d instances, want 1", n)
		}
	})
}

func TestRefusalOfAnInstanceIsPassedOn(t *testing.T) {
	onFakes(t, withHandler(func(context.Context, *fakeInstance, *plugins.Call) (*plugins.Reply, error) {
		return nil, notStarted(errInjected)
	}), func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(), request("r"))
		if !errors.Is(err, errInjected) || !errors.Is(err, plugins.ErrNotStarted) || resp != nil {
			t.Errorf("got %v, %v", resp, err)
		}
		if l := r.Load(testSpec().Key); l.Free != 1 || l.InFlight != 0 {
			t.Errorf("load afterwards is %+v", l)
		}
	})
}

func TestCancellationReachesTheInstance(t *testing.T) {
	cleanup := 300 * time.Millisecond
	onFakes(t, withHandler(func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
		if call.RequestID == "next" {
			return echo(ctx, f, call)
		}
		<-ctx.Done()
		time.Sleep(cleanup)
		return nil, ctx.Err()
	}), func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- r.call(ctx, spec, "r") }()
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
			t.Errorf("the caller got %v after %v", err, time.Since(began))
		}
		// Its slot is not free before the handler has returned.
		if err := r.call(t.Context(), spec, "next"); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != cleanup {
			t.Errorf("the next call waited %v, want %v", waited, cleanup)
		}
		if f := r.l.instances(); len(f) != 1 || f[0].crowd() != 1 {
			t.Errorf("%d instances, at most %d calls at once; want 1 and 1", len(f), f[0].crowd())
		}
	})
}

func TestInstanceThatIgnoresCancellationIsEnded(t *testing.T) {
	onFakes(t, withHandler(hang), func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- r.call(ctx, testSpec(), "r") }()
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller got %v", err)
		}
		synctest.Wait()
		if r.l.living() != 1 {
			t.Error("the instance was ended without a grace")
		}
		time.Sleep(cancelGrace)
		synctest.Wait()
		if n := r.l.living(); n != 0 {
			t.Errorf("%d instances after the grace", n)
		}
	})
}

// streaming answers with the given reader as a stream.
func streaming(inner io.Reader, settled chan struct{}) handler {
	return func(context.Context, *fakeInstance, *plugins.Call) (*plugins.Reply, error) {
		return &plugins.Reply{Stream: &fakeStream{Reader: inner, settled: settled}}, nil
	}
}

func TestStreamHoldsItsSlotUntilTheEnd(t *testing.T) {
	var metered []Usage
	var mu sync.Mutex
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		l.handler = streaming(strings.NewReader("one two"), nil)
		cfg.Meter = func(u Usage) {
			mu.Lock()
			defer mu.Unlock()
			metered = append(metered, u)
		}
	}, func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(), request("r"))
		if err != nil {
			t.Fatal(err)
		}
		if l := r.Load(testSpec().Key); l.InFlight != 1 || len(metered) != 0 {
			t.Errorf("before the end: load %+v, metered %v", l, metered)
		}
		time.Sleep(time.Second)
		body, err := io.ReadAll(resp.Stream)
		if string(body) != "one two" || err != nil {
			t.Errorf("read %q, %v", body, err)
		}
		resp.Release()
		resp.Release()
		if l := r.Load(testSpec().Key); l.InFlight != 0 || l.Free != 1 {
			t.Errorf("after the end: load %+v", l)
		}
		if len(metered) != 1 || metered[0].Billed != time.Second || metered[0].BytesOut != 7 || metered[0].Failed {
			t.Errorf("metered %+v", metered)
		}
	})
}

func TestStreamThatIsClosedEarlyCancelsTheCall(t *testing.T) {
	var settled chan struct{}
	onFakes(t, func(_ *Config, l *fakeLauncher) {
		settled = make(chan struct{})
		l.handler = streaming(strings.NewReader("never read"), settled)
	}, func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(), request("r"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
		synctest.Wait()
		if l := r.Load(testSpec().Key); l.InFlight != 1 {
			t.Errorf("load before the function stopped is %+v", l)
		}
		close(settled)
		synctest.Wait()
		if l := r.Load(testSpec().Key); l.InFlight != 0 || l.Free != 1 {
			t.Errorf("load after the function stopped is %+v", l)
		}
		if _, err := resp.Stream.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("read after close: %v", err)
		}
	})
}

// endless never gives a byte, until the instance ends.
type endless struct{ gone <-chan struct{} }

func (e endless) Read([]byte) (int, error) {
	<-e.gone
	return 0, &plugins.ExitError{Cause: plugins.ErrClosed}
}

func TestTimeoutEndsAStream(t *testing.T) {
	onFakes(t, withHandler(func(_ context.Context, f *fakeInstance, _ *plugins.Call) (*plugins.Reply, error) {
		return &plugins.Reply{Stream: &fakeStream{Reader: endless{f.gone}}}, nil
	}), func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(func(s *Spec) { s.Timeout = time.Second }), request("r"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Release()
		if _, err := io.ReadAll(resp.Stream); !errors.Is(err, ErrTimeout) {
			t.Errorf("the reader got %v", err)
		}
	})
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestStreamEndsWithTheFunctionsError(t *testing.T) {
	want := &plugins.FunctionError{Type: "Torn"}
	onFakes(t, withHandler(streaming(failingReader{want}, nil)), func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(), request("r"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Release()
		if _, err := io.ReadAll(resp.Stream); !errors.Is(err, want) {
			t.Errorf("the reader got %v", err)
		}
		if l := r.Load(testSpec().Key); l.Free != 1 {
			t.Errorf("load afterwards is %+v", l)
		}
	})
}

func TestCallWhoseCallerIsGoneDoesNotStart(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		if err := r.call(t.Context(), testSpec(), "warm"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		if err := r.call(ctx, testSpec(), "r"); !errors.Is(err, plugins.ErrNotStarted) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if f := r.l.instances(); len(f) != 1 || f[0].calls != 1 || r.l.living() != 1 {
			t.Errorf("%d instances, %d of them alive, the first with %d calls", len(f), r.l.living(), f[0].calls)
		}
	})
}

// deafPlane is a connection that breaks while its process lives on.
type deafPlane struct {
	fakePlane
	broken chan struct{}
}

func (p deafPlane) Done() <-chan struct{} { return p.broken }

func (p deafPlane) Invoke(context.Context, *plugins.Call) (*plugins.Reply, error) {
	close(p.broken)
	return nil, &plugins.ExitError{Cause: plugins.ErrClosed}
}

type deafLauncher struct{ *fakeLauncher }

func (l deafLauncher) launch(ctx context.Context, in *instance) (*launched, error) {
	got, err := l.fakeLauncher.launch(ctx, in)
	if err == nil {
		got.plane = deafPlane{got.plane.(fakePlane), make(chan struct{})}
	}
	return got, err
}

func TestProcessWithoutItsConnectionIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLauncher{handler: echo}
		e, err := newExecutor(testConfig(t), deafLauncher{l})
		if err != nil {
			t.Fatal(err)
		}
		r := startRig(t, e, l)
		defer r.stop(t)
		_, err = r.Invoke(t.Context(), testSpec(), request("r"))
		exit, ok := errors.AsType[*Exit](err)
		if !isExit(err) || !ok || exit.Reason != reasonDisconnected {
			t.Errorf("got %v", err)
		}
		if n := l.living(); n != 0 {
			t.Errorf("%d processes live on", n)
		}
	})
}

// stuck blocks until its context ends, as a stream of a function that is idle.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func TestCancellationEndsAStreamAndKeepsTheInstance(t *testing.T) {
	var settled chan struct{}
	onFakes(t, func(_ *Config, l *fakeLauncher) { settled = make(chan struct{}) }, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		r.l.handler = streaming(stuck{ctx}, settled)
		resp, err := r.Invoke(ctx, testSpec(), request("r"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Release()
		time.AfterFunc(time.Second, cancel)
		if _, err := io.ReadAll(resp.Stream); !errors.Is(err, context.Canceled) {
			t.Errorf("the reader got %v", err)
		}
		close(settled)
		synctest.Wait()
		if l := r.Load(testSpec().Key); l.Free != 1 || l.InFlight != 0 {
			t.Errorf("load afterwards is %+v", l)
		}
	})
}
