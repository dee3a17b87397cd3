package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/plugins"
)

// TestLimitsHoldUnderABurst is the fifth point of "Done when" of issue 2.
func TestLimitsHoldUnderABurst(t *testing.T) {
	for _, scale := range []bool{false, true} {
		t.Run(fmt.Sprintf("scale hook says %v", scale), func(t *testing.T) {
			var b *barrier
			onFakes(t, func(cfg *Config, l *fakeLauncher) {
				cfg.Scale = func(ScaleInput) bool { return scale }
				b = newBarrier()
				l.handler, l.initTime = b.handle, 3*time.Millisecond
			}, func(t *testing.T, r *rig) {
				spec := testSpec(func(s *Spec) { s.Max, s.Queue, s.IdleTTL = 8, 64, 2*time.Second })
				var mu sync.Mutex
				ok, full := 0, 0
				var wg sync.WaitGroup
				for i := range 200 {
					wg.Go(func() {
						err := r.call(t.Context(), spec, fmt.Sprint("call-", i))
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil:
							ok++
						case errors.Is(err, ErrQueueFull):
							full++
						default:
							t.Errorf("call %d: %v", i, err)
						}
					})
				}
				time.Sleep(time.Second)
				synctest.Wait()
				want := Load{Instances: 8, InFlight: 8, Queued: 64, Max: 8, Queue: 64}
				if got := r.Load(spec.Key); got != want {
					t.Errorf("load while held is %+v, want %+v", got, want)
				}
				if full != 128 || b.held() != 8 {
					t.Errorf("%d calls run and %d were refused, want 8 and 128", b.held(), full)
				}
				close(b.open)
				wg.Wait()
				if ok != 72 {
					t.Errorf("%d calls succeeded, want 72", ok)
				}
				time.Sleep(2500 * time.Millisecond)
				synctest.Wait()
				if got := r.Load(spec.Key); got.Instances != 0 || r.l.living() != 0 {
					t.Errorf("%d instances after the idle time, load %+v", r.l.living(), got)
				}
				if n := len(r.l.instances()); n != 8 {
					t.Errorf("%d instances were started, want 8", n)
				}
			})
		})
	}
}

func TestCallsShareAWarmInstance(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		spec := testSpec()
		for i := range 5 {
			resp, err := r.Invoke(t.Context(), spec, request("r"))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Cold != (i == 0) {
				t.Errorf("call %d: cold is %v", i, resp.Cold)
			}
			resp.Release()
		}
		if n := len(r.l.instances()); n != 1 {
			t.Errorf("%d instances for calls one after another, want 1", n)
		}
	})
}

func TestStepsAddUpToTheTimeSpent(t *testing.T) {
	onFakes(t, func(_ *Config, l *fakeLauncher) {
		l.initTime = 40 * time.Millisecond
		l.handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
			time.Sleep(25*time.Millisecond + time.Microsecond)
			reply, err := echo(ctx, f, call)
			reply.Stats = plugins.Stats{Init: 30 * time.Millisecond, CPU: 5 * time.Millisecond, PeakMemory: 7 << 20}
			return reply, err
		}
	}, func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(), request("r-1"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Release()
		want := Steps{Handshake: 10 * time.Millisecond, Init: 30 * time.Millisecond, Run: 25*time.Millisecond + time.Microsecond}
		if resp.Steps != want {
			t.Errorf("steps are %+v, want %+v", resp.Steps, want)
		}
		usage := Usage{
			Key: testSpec().Key, RequestID: "r-1", Cold: true, Init: 40 * time.Millisecond,
			Billed: 26 * time.Millisecond, CPU: 5 * time.Millisecond,
			MemoryLimit: 128 << 20, MemoryPeak: 7 << 20, BytesIn: 3, BytesOut: 3,
		}
		if resp.Usage != usage {
			t.Errorf("usage is %+v, want %+v", resp.Usage, usage)
		}
	})
}

func TestExecutorRefusesCallsWhileItDoesNotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, err := newExecutor(testConfig(t), &fakeLauncher{handler: echo})
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			_, err := e.Invoke(t.Context(), testSpec(), request("r"))
			if !errors.Is(err, ErrClosed) || !errors.Is(err, plugins.ErrNotStarted) {
				t.Errorf("call %s Run: %v", when, err)
			}
		}
		check("before")
		if err := e.Drain(t.Context()); err != nil {
			t.Errorf("drain before Run: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run with an ended context: %v", err)
		}
		check("after")
		if err := e.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
	})
}

func TestTwoExecutorsLiveSideBySide(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		other := newRig(t, nil)
		if err := errors.Join(r.call(t.Context(), testSpec(), "a"), other.call(t.Context(), testSpec(), "b")); err != nil {
			t.Error(err)
		}
		other.stop(t)
		if err := r.call(t.Context(), testSpec(), "c"); err != nil {
			t.Errorf("after the other one ended: %v", err)
		}
	})
}

func TestNewReportsAllProblemsOfItsConfig(t *testing.T) {
	t.Parallel()
	_, err := New(Config{DataDir: "relative"})
	if err == nil {
		t.Fatal("an empty configuration was accepted")
	}
	for _, field := range []string{"DataDir", "Node", "Sandbox", "Code", "Memory", "LogBytes", "Registerer"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("error does not mention %s: %v", field, err)
		}
	}
}

func TestInvalidSpecIsRefused(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		_, err := r.Invoke(t.Context(), testSpec(func(s *Spec) { s.Memory, s.Timeout = 0, 0 }), request("r"))
		if !errors.Is(err, plugins.ErrNotStarted) || !strings.Contains(err.Error(), "Timeout") {
			t.Errorf("got %v", err)
		}
	})
}

func TestDrainLetsCallsFinish(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max = 1 })
		results := make(chan error, 2)
		for range 2 {
			go func() { results <- r.call(t.Context(), spec, "r") }()
		}
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.Drain(t.Context()) }()
		synctest.Wait()
		if err := r.call(t.Context(), spec, "late"); !errors.Is(err, ErrDraining) {
			t.Errorf("call while draining: %v", err)
		}
		close(b.open)
		if err := errors.Join(<-results, <-results, <-drained); err != nil {
			t.Error(err)
		}
		if n := r.l.living(); n != 0 {
			t.Errorf("%d instances after Drain", n)
		}
	})
}

func TestDrainGivesUpAtItsDeadline(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		result := make(chan error, 1)
		go func() { result <- r.call(t.Context(), testSpec(), "r") }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain returned %v", err)
		}
		if err := <-result; !isExit(err) {
			t.Errorf("the call that did not finish got %v", err)
		}
	})
}

func TestStopEndsCallsAndInstances(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max = 1 })
		running, waiting := make(chan error, 1), make(chan error, 1)
		go func() { running <- r.call(t.Context(), spec, "r") }()
		synctest.Wait()
		go func() { waiting <- r.call(t.Context(), spec, "w") }()
		synctest.Wait()
		r.cancel()
		if err := <-running; !isExit(err) {
			t.Errorf("the running call got %v", err)
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("the waiting call got %v", err)
		}
	})
}

func isExit(err error) bool {
	_, ok := errors.AsType[*plugins.ExitError](err)
	return ok && !errors.Is(err, plugins.ErrNotStarted)
}

func TestOnWarmFollowsTheFirstAndLastInstance(t *testing.T) {
	var mu sync.Mutex
	var events []string
	onFakes(t, func(cfg *Config, _ *fakeLauncher) {
		cfg.OnWarm = func(key Key, warm bool) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, fmt.Sprint(key, " ", warm))
		}
	}, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.IdleTTL = time.Second })
		for range 2 {
			if err := r.call(t.Context(), spec, "r"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := "[default/hello:1 true default/hello:1 false default/hello:1 true default/hello:1 false]"
		if got := fmt.Sprint(events); got != want {
			t.Errorf("events are %s, want %s", got, want)
		}
	})
}
