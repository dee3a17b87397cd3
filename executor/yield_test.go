package executor

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/plugins"
)

// slow answers after a while.
func slow(took time.Duration) handler {
	return func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
		timer := time.NewTimer(took)
		defer timer.Stop()
		select {
		case <-timer.C:
			return echo(ctx, f, call)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// patiently is call for a caller that waits for memory.
func (r *rig) patiently(ctx context.Context, spec *Spec, id string) error {
	req := request(id)
	req.Wait = true
	resp, err := r.Invoke(ctx, spec, req)
	if err == nil {
		resp.Release()
	}
	return err
}

// flood sends calls of a version that take all the memory and go on for long.
func (r *rig) flood(t *testing.T, wg *sync.WaitGroup, spec *Spec, calls int, done func(error)) {
	t.Helper()
	for range calls {
		wg.Go(func() { done(r.call(t.Context(), spec, "f")) })
	}
	synctest.Wait()
}

func TestThousandSlowCallsDoNotStarveASingleOne(t *testing.T) {
	for _, c := range []struct {
		name        string
		budget      int64
		concurrency int
		calls       int
	}{
		{"memory for four", 4, 1, 1000},
		{"memory for one", 1, 1, 100},
		{"several calls in one instance", 2, 3, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			onFakes(t, func(cfg *Config, l *fakeLauncher) {
				cfg.Registerer, cfg.Memory, l.initTime = registry, c.budget*128<<20, 10*time.Millisecond
				l.handler = slow(2 * time.Second)
			}, func(t *testing.T, r *rig) {
				many := named("many", func(s *Spec) { s.Queue, s.Timeout, s.Concurrency = 1000, time.Hour, c.concurrency })
				var wg sync.WaitGroup
				r.flood(t, &wg, many, c.calls, func(err error) {
					if err != nil {
						t.Errorf("one of many: %v", err)
					}
				})
				began := time.Now()
				if err := r.patiently(t.Context(), named("single"), "s"); err != nil {
					t.Errorf("the single call: %v", err)
				}
				// The end of a call that runs, a start and its own run.
				if took := time.Since(began); took > 7*time.Second {
					t.Errorf("the single call took %v", took)
				}
				if n := series(t, registry)["evictions_total[default/many share]"]; n != 1 {
					t.Errorf("%v instances gave way, want 1", n)
				}
				wg.Wait() // the many are served too
			})
		})
	}
}

func TestImpatientCallIsToldAtOnce(t *testing.T) {
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Memory, l.handler = 128<<20, slow(5*time.Second)
	}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		many := named("many", func(s *Spec) { s.Timeout = time.Hour })
		r.flood(t, &wg, many, 10, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		began := time.Now()
		if err := r.call(t.Context(), named("single"), "s"); !errors.Is(err, ErrNoCapacity) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the refusal took %v", took)
		}
		wg.Wait()
		if n := len(r.l.instances()); n != 1 {
			t.Errorf("%d instances, so that many gave way to nobody", n)
		}
	})
}

func TestTwoGreedyFunctionsShareTheMemory(t *testing.T) {
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Memory, l.initTime, l.handler = 8*128<<20, 10*time.Millisecond, slow(500*time.Millisecond)
	}, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		served := map[string]int{}
		greedy := func(name string) {
			spec := named(name, func(s *Spec) { s.Queue, s.Timeout = 1000, time.Hour })
			for range 20 {
				wg.Go(func() {
					for ctx.Err() == nil {
						if err := r.patiently(ctx, spec, "g"); err == nil {
							mu.Lock()
							served[name]++
							mu.Unlock()
						} else if ctx.Err() == nil {
							t.Error(err)
							return
						}
					}
				})
			}
			synctest.Wait()
		}
		greedy("first")
		time.Sleep(time.Minute)
		mu.Lock()
		clear(served)
		mu.Unlock()
		greedy("second")
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		a, b := served["first"], served["second"]
		// 8 instances serve 16 calls a second, less what starts cost.
		if total := a + b; total < 800 || min(a, b) < 2*total/5 {
			t.Errorf("served %v in a minute", served)
		}
	})
}

func TestMinimumIsNoTurnOfAnybody(t *testing.T) {
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Memory, l.handler = 128<<20, slow(5*time.Second)
	}, func(t *testing.T, r *rig) {
		kept := named("kept", func(s *Spec) { s.Min, s.Timeout = 1, time.Hour })
		r.Reconcile([]Spec{*kept, *named("single")})
		synctest.Wait()
		var wg sync.WaitGroup
		r.flood(t, &wg, kept, 5, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if err := r.patiently(t.Context(), named("single"), "s"); !errors.Is(err, ErrNoCapacity) {
			t.Errorf("waiting in vain ended in %v", err)
		}
		wg.Wait()
		if n := len(r.l.instances()); n != 1 {
			t.Errorf("%d instances, want the one that is kept warm", n)
		}
	})
}

func TestCallThatLeavesTheLineForMemoryCostsNobody(t *testing.T) {
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Memory, l.handler = 128<<20, slow(5*time.Second)
	}, func(t *testing.T, r *rig) {
		many := named("many", func(s *Spec) { s.Timeout = time.Hour })
		var wg sync.WaitGroup
		r.flood(t, &wg, many, 10, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.patiently(ctx, named("single"), "s"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wg.Wait()
		if n := len(r.l.instances()); n != 1 {
			t.Errorf("%d instances, so that many gave way to nobody", n)
		}
	})
}
