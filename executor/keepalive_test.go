package executor

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/plugins"
)

func named(name string, change ...func(*Spec)) *Spec {
	s := testSpec(change...)
	s.Function = name
	return s
}

func TestIdleInstancesGoAfterTheirOwnTime(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		short := named("short", func(s *Spec) { s.IdleTTL = 2 * time.Second })
		long := named("long", func(s *Spec) { s.IdleTTL = 10 * time.Second })
		for _, spec := range []*Spec{short, long} {
			if err := r.call(t.Context(), spec, "r"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(1900 * time.Millisecond)
		if r.Load(short.Key).Instances != 1 {
			t.Error("an instance was ended before its time")
		}
		time.Sleep(time.Second)
		if r.Load(short.Key).Instances != 0 || r.Load(long.Key).Instances != 1 {
			t.Errorf("after 3 s: %+v and %+v", r.Load(short.Key), r.Load(long.Key))
		}
		time.Sleep(8 * time.Second)
		if n := r.l.living(); n != 0 {
			t.Errorf("%d instances after 11 s", n)
		}
	})
}

func TestInstanceWithWorkIsNeverReaped(t *testing.T) {
	onFakes(t, withHandler(func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
		time.Sleep(time.Minute)
		return echo(ctx, f, call)
	}), func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.IdleTTL, s.Timeout = time.Second, time.Hour })
		if err := r.call(t.Context(), spec, "r"); err != nil {
			t.Error(err)
		}
	})
}

func TestInstanceThatDoesNotDrainIsEnded(t *testing.T) {
	onFakes(t, func(_ *Config, l *fakeLauncher) {
		l.onLaunch = func(_ context.Context, _ int, f *fakeInstance) error { f.drains = false; return nil }
	}, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.IdleTTL = time.Second })
		if err := r.call(t.Context(), spec, "r"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if f := r.l.instances()[0]; !f.drained || r.l.living() != 1 {
			t.Errorf("drained %v, %d living within the grace", f.drained, r.l.living())
		}
		time.Sleep(drainGrace)
		synctest.Wait()
		if f := r.l.instances()[0]; !f.killed || !f.closed {
			t.Errorf("killed %v, closed %v after the grace", f.killed, f.closed)
		}
	})
}

func TestMemoryGivesWayToTheMoreValuable(t *testing.T) {
	const unit = 100 << 20
	cold := map[string]time.Duration{"cheap": 2 * time.Millisecond, "dear": 200 * time.Millisecond}
	onFakes(t, func(cfg *Config, l *fakeLauncher) { cfg.Memory = 2 * unit }, func(t *testing.T, r *rig) {
		sized := func(s *Spec) { s.Memory = unit }
		for _, name := range []string{"dear", "cheap"} {
			r.l.initTime = cold[name]
			if err := r.call(t.Context(), named(name, sized), "r"); err != nil {
				t.Fatal(err)
			}
		}
		// The cheap one was used last, and goes all the same.
		if err := r.call(t.Context(), named("third", sized), "r"); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, in := range r.Instances() {
			left = append(left, in.Key.Function)
		}
		if !slices.Equal(left, []string{"dear", "third"}) {
			t.Errorf("left are %v", left)
		}
	})
}

func TestFrequencyOfLongAgoLosesItsWeight(t *testing.T) {
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Memory, l.initTime = 3<<30, 10*time.Millisecond
	}, func(t *testing.T, r *rig) {
		tiny := func(s *Spec) { s.Memory = 1 << 30 }
		for range 50 {
			if err := r.call(t.Context(), named("once-popular", tiny), "r"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 200 {
			name := "passing-" + string(rune('a'+i%4))
			if err := r.call(t.Context(), named(name, tiny), "r"); err != nil {
				t.Fatal(err)
			}
		}
		if l := r.Load(named("once-popular").Key); l.Instances != 0 {
			t.Error("a version that nobody calls any more holds its memory for ever")
		}
	})
}

func TestNoCapacityWhenAllMemoryIsInUse(t *testing.T) {
	var b *barrier
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		b = newBarrier()
		l.handler = b.handle
		cfg.Memory = 128 << 20
	}, func(t *testing.T, r *rig) {
		result := make(chan error, 1)
		go func() { result <- r.call(t.Context(), named("busy"), "r") }()
		synctest.Wait()
		err := r.call(t.Context(), named("other"), "r")
		if !errors.Is(err, ErrNoCapacity) || !errors.Is(err, plugins.ErrNotStarted) {
			t.Errorf("got %v", err)
		}
		// A further call of the busy version waits, for there is an instance to wait for.
		waiting := make(chan error, 1)
		go func() { waiting <- r.call(t.Context(), named("busy"), "w") }()
		synctest.Wait()
		close(b.open)
		if err := errors.Join(<-result, <-waiting); err != nil {
			t.Error(err)
		}
		if err := r.call(t.Context(), named("other"), "r"); err != nil {
			t.Errorf("once memory is free: %v", err)
		}
	})
}

func TestMinimumDoesNotGiveWay(t *testing.T) {
	onFakes(t, func(cfg *Config, _ *fakeLauncher) { cfg.Memory = 128 << 20 }, func(t *testing.T, r *rig) {
		r.Reconcile([]Spec{*named("kept", func(s *Spec) { s.Min = 1 })})
		synctest.Wait()
		if err := r.call(t.Context(), named("other"), "r"); !errors.Is(err, ErrNoCapacity) {
			t.Errorf("got %v", err)
		}
	})
}

func TestInstanceOverItsMemoryIsEnded(t *testing.T) {
	onFakes(t, withHandler(func(ctx context.Context, f *fakeInstance, _ *plugins.Call) (*plugins.Reply, error) {
		f.set(func() { f.memory = 1 << 40 })
		<-ctx.Done()
		return nil, ctx.Err()
	}), func(t *testing.T, r *rig) {
		resp, err := r.Invoke(t.Context(), testSpec(), request("r"))
		exit, ok := errors.AsType[*Exit](err)
		if !isExit(err) || !ok || !exit.OOM {
			t.Fatalf("got %v", err)
		}
		if resp.Usage.MemoryPeak != 1<<40 {
			t.Errorf("peak is %d", resp.Usage.MemoryPeak)
		}
	})
}
