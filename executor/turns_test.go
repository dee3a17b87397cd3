package executor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/internal/pace"
)

func TestStartsOfOneFunctionDoNotStandBeforeAnothers(t *testing.T) {
	var launched []string
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Starts = 1
		l.initTime = 10 * time.Millisecond
		l.handler = newBarrier().handle // nothing frees a slot
	}, func(t *testing.T, r *rig) {
		var mu sync.Mutex
		r.l.onLaunch = func(_ context.Context, n int, _ *fakeInstance) error {
			mu.Lock()
			defer mu.Unlock()
			for _, in := range r.Instances() {
				if r.l.instances()[n-1].id == in.ID {
					launched = append(launched, in.Key.Function)
				}
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { _ = r.call(ctx, named("many"), "m") })
		}
		synctest.Wait()
		wg.Go(func() { _ = r.call(ctx, named("single"), "s") })
		time.Sleep(10 * time.Second)
		cancel()
		wg.Wait()
		mu.Lock()
		defer mu.Unlock()
		if at := slices.Index(launched, "single"); at < 0 || at > 2 {
			t.Errorf("the single start came as number %d of %d", at+1, len(launched))
		}
	})
}

func TestStartsFollowThePressureOfTheProcessors(t *testing.T) {
	var mu sync.Mutex
	pressure, known := 0.0, true
	set := func(p float64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		pressure, known = p, ok
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg, l := testConfig(t), &fakeLauncher{handler: newBarrier().handle}
		cfg.Starts = 4
		var starting, most int
		l.onLaunch = func(context.Context, int, *fakeInstance) error {
			mu.Lock()
			starting++
			most = max(most, starting)
			mu.Unlock()
			time.Sleep(startBurst / 2)
			mu.Lock()
			starting--
			mu.Unlock()
			return nil
		}
		e, err := newExecutor(cfg, l)
		if err != nil {
			t.Fatal(err)
		}
		e.pressure = func(time.Time) (float64, bool) {
			mu.Lock()
			defer mu.Unlock()
			return pressure, known
		}
		r := startRig(t, e, l)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		burst := func(version uint64) int {
			for range 100 {
				wg.Go(func() { _ = r.call(ctx, testSpec(func(s *Spec) { s.Version = version }), "r") })
			}
			time.Sleep(20 * time.Second)
			mu.Lock()
			defer mu.Unlock()
			n := most
			most = 0
			return n
		}
		if n := burst(1); n <= 8 || n > 32 {
			t.Errorf("%d starts at once on idle processors, base 4", n)
		}
		set(1, true)
		time.Sleep(10 * time.Second)
		if n := burst(2); n != 2 {
			t.Errorf("%d starts at once on crowded processors, want half of 4", n)
		}
		set(0, false)
		time.Sleep(10 * time.Second)
		if n := burst(3); n != 4 {
			t.Errorf("%d starts at once without measurements, want 4", n)
		}
		cancel()
		wg.Wait()
		r.stop(t)
	})
}

func TestTurnThatNobodyWaitsForAnyMoreIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := turnstile{limit: pace.NewLimit(1)}
		key := func(i int) Key { return Key{App: "a", Function: fmt.Sprint(i), Version: 1} }
		if err := g.enter(t.Context(), key(0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if err := g.enter(ctx, key(i)); err == nil {
					g.leave(key(i))
				}
			})
		}
		synctest.Wait()
		cancel()
		g.leave(key(0))
		wg.Wait()
		if g.running != 0 || g.queued != 0 || len(g.lines) != 0 {
			t.Errorf("at rest %d run and %d wait in %d lines", g.running, g.queued, len(g.lines))
		}
		if err := g.enter(t.Context(), key(1)); err != nil {
			t.Error(err)
		}
	})
}
