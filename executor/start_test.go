package executor

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

func stateOf(code int) sandbox.State { return sandbox.State{Code: code} }

func TestFailedStartIsToldToItsCallers(t *testing.T) {
	cases := []struct {
		name   string
		launch func(ctx context.Context, n int, f *fakeInstance) error
		reason string
	}{
		{"launch fails", func(context.Context, int, *fakeInstance) error { return errInjected }, "injected fault"},
		{"init fails", func(_ context.Context, _ int, f *fakeInstance) error {
			f.readyErr = &plugins.InitError{Type: "NoNest", Message: "no nest"}
			return nil
		}, "no nest"},
		{"exits in init", func(_ context.Context, _ int, f *fakeInstance) error {
			f.exit(stateOf(4))
			return nil
		}, "instance exited with code 4 before it was ready"},
		{"hangs in launch", func(ctx context.Context, _ int, _ *fakeInstance) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, "not ready within 5s"},
		{"hangs in init", func(_ context.Context, _ int, f *fakeInstance) error {
			f.l.initTime = time.Hour
			return nil
		}, "not ready within 5s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onFakes(t, func(_ *Config, l *fakeLauncher) { l.onLaunch = c.launch }, func(t *testing.T, r *rig) {
				spec := testSpec(func(s *Spec) { s.Concurrency, s.StartTimeout = 2, 5*time.Second })
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						err := r.call(t.Context(), spec, "r")
						failed, ok := errors.AsType[*StartError](err)
						if !ok || !errors.Is(err, plugins.ErrNotStarted) || !strings.Contains(failed.Reason, c.reason) {
							t.Errorf("got %v, want a StartError about %q", err, c.reason)
						}
					})
				}
				wg.Wait()
				if f := r.Failing(); len(f) != 1 || f[0].Failures == 0 || !strings.Contains(f[0].Reason, c.reason) {
					t.Errorf("failing versions: %+v", f)
				}
			})
		})
	}
}

func TestFailedStartDoesNotHarmCallsThatOthersCanServe(t *testing.T) {
	onFakes(t, func(_ *Config, l *fakeLauncher) {
		l.handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
			time.Sleep(10 * time.Millisecond)
			return echo(ctx, f, call)
		}
		l.onLaunch = func(_ context.Context, n int, _ *fakeInstance) error {
			if n > 1 {
				return errInjected
			}
			return nil
		}
	}, func(t *testing.T, r *rig) {
		spec := testSpec()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := r.call(t.Context(), spec, "r"); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
	})
}

func TestCrashLoopBacksOffAndSaysWhy(t *testing.T) {
	healthy := false
	onFakes(t, func(_ *Config, l *fakeLauncher) {
		l.handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
			if !healthy {
				f.exit(stateOf(9))
				<-ctx.Done()
			}
			return echo(ctx, f, call)
		}
	}, func(t *testing.T, r *rig) {
		spec := testSpec()
		for range freeFailures {
			if err := r.call(t.Context(), spec, "r"); !isExit(err) {
				t.Fatalf("got %v, want an exit", err)
			}
		}
		err := r.call(t.Context(), spec, "r")
		loop, ok := errors.AsType[*CrashLoopError](err)
		if !ok || !errors.Is(err, plugins.ErrNotStarted) || !strings.Contains(err.Error(), "code 9") {
			t.Fatalf("got %v, want a CrashLoopError with the exit code", err)
		}
		if wait := time.Until(loop.Until); wait <= 0 || wait > backoffBase {
			t.Errorf("first back-off is %v, want up to %v", wait, backoffBase)
		}
		started := len(r.l.instances())
		time.Sleep(time.Until(loop.Until) - time.Millisecond)
		if err := r.call(t.Context(), spec, "r"); err == nil || len(r.l.instances()) != started {
			t.Errorf("within the back-off: %v, %d starts more", err, len(r.l.instances())-started)
		}
		healthy = true
		time.Sleep(2 * time.Millisecond)
		if err := r.call(t.Context(), spec, "r"); err != nil {
			t.Errorf("after the back-off: %v", err)
		}
		if f := r.Failing(); len(f) != 0 {
			t.Errorf("a completed call did not end the loop: %+v", f)
		}
	})
}

func TestMinimumOfACrashingVersionBacksOff(t *testing.T) {
	onFakes(t, func(_ *Config, l *fakeLauncher) {
		l.onLaunch = func(context.Context, int, *fakeInstance) error { return errInjected }
	}, func(t *testing.T, r *rig) {
		r.Reconcile([]Spec{*testSpec(func(s *Spec) { s.Min = 1 })})
		time.Sleep(5 * time.Minute)
		// Three at once, then a start after 0.5, 1, 2 … 16 s and then every 30 s.
		if n := len(r.l.instances()); n < 10 || n > 25 {
			t.Errorf("%d starts in five minutes", n)
		}
	})
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	var b backoff
	now := time.Now()
	var last time.Duration
	for i := 1; i <= 20; i++ {
		b.fail(now, now, "boom")
		delay := b.until.Sub(now)
		switch {
		case i < freeFailures && b.active(now):
			t.Errorf("failure %d delays starts", i)
		case i >= freeFailures && (delay <= 0 || delay > backoffMax || delay < min(last, backoffMax*8/10)):
			t.Errorf("failure %d delays starts by %v after %v", i, delay, last)
		}
		if i >= freeFailures {
			last = delay
			now = b.until
		} else {
			now = now.Add(time.Millisecond)
		}
	}
	if last < backoffMax*9/10 {
		t.Errorf("the delay ends at %v, want about %v", last, backoffMax)
	}
	b.succeed()
	if b.active(now) || b.failures != 0 {
		t.Errorf("success leaves %+v", b)
	}
}

func TestFailuresOfOneBurstCountOnce(t *testing.T) {
	t.Parallel()
	var b backoff
	asked := time.Now()
	for range 50 {
		b.fail(asked.Add(time.Second), asked, "boom")
	}
	if b.failures != 1 {
		t.Errorf("50 instances started together count as %d failures", b.failures)
	}
}
