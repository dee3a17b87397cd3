package executor

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// onSchedule calls a version every quarter of an hour, for which it is kept a
// minute, and returns how many of the later calls were cold.
func (r *rig) onSchedule(t *testing.T, spec *Spec) (cold int) {
	t.Helper()
	for i := range 9 {
		resp, err := r.Invoke(t.Context(), spec, request("r"))
		if err != nil {
			t.Fatal(err)
		}
		if i >= 5 && resp.Cold {
			cold++
		}
		resp.Release()
		time.Sleep(15 * time.Minute)
	}
	return cold
}

func TestRegularCallsFindAnInstanceStartedAhead(t *testing.T) {
	registry := prometheus.NewRegistry()
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Registerer, l.initTime = registry, time.Second
	}, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.IdleTTL = 5 * time.Minute })
		if cold := r.onSchedule(t, spec); cold != 0 {
			t.Errorf("%d of 4 calls on schedule were cold", cold)
		}
		// The schedule ends: one guess is wrong, and no more are made.
		time.Sleep(time.Hour)
		got := series(t, registry)
		if got["prewarms_total[default/hello used]"] < 4 || got["prewarms_total[default/hello wasted]"] != 1 {
			t.Errorf("guesses: %v", got)
		}
		if n := r.l.living(); n != 0 {
			t.Errorf("%d instances live on", n)
		}
	})
}

func TestGuessTakesNoMemoryFromAnybody(t *testing.T) {
	registry := prometheus.NewRegistry()
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Registerer, cfg.Memory = registry, 256<<20
	}, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.IdleTTL = 5 * time.Minute })
		_ = r.onSchedule(t, spec)
		// At the last quarter an instance waits for its call. It gives way.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r.l.handler = newBarrier().handle
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _ = r.call(ctx, named("other", func(s *Spec) { s.Timeout = 24 * time.Hour }), "o") })
		}
		time.Sleep(time.Minute)
		if n := r.Load(named("other").Key).Instances; n != 2 {
			t.Errorf("the other function has %d instances, want 2", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if l := r.Load(spec.Key); l.Instances+l.Starting != 0 {
			t.Errorf("a guess took memory: %+v", l)
		}
		cancel()
		wg.Wait()
	})
}
