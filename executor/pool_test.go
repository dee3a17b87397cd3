package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/covey-dev/covey/plugins"
)

func TestQueueIsServedInOrder(t *testing.T) {
	var order []string
	onFakes(t, withHandler(func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
		order = append(order, call.RequestID) // one call at a time
		time.Sleep(time.Millisecond)
		return echo(ctx, f, call)
	}), func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max = 1 })
		var want []string
		var wg sync.WaitGroup
		for i := range 20 {
			id := fmt.Sprint(i)
			want = append(want, id)
			wg.Go(func() {
				if err := r.call(t.Context(), spec, id); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(order, want) {
			t.Errorf("calls ran in the order %v", order)
		}
	})
}

func TestCallerThatLeavesFreesItsPlace(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max, s.Queue = 1, 1 })
		var wg sync.WaitGroup
		start := func(ctx context.Context, check func(error) bool) {
			wg.Go(func() {
				if err := r.call(ctx, spec, "r"); !check(err) {
					t.Errorf("got %v", err)
				}
			})
			synctest.Wait()
		}
		fine := func(err error) bool { return err == nil }
		start(t.Context(), fine)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start(short, func(err error) bool {
			return errors.Is(err, context.DeadlineExceeded) && errors.Is(err, plugins.ErrNotStarted)
		})
		start(t.Context(), func(err error) bool { return errors.Is(err, ErrQueueFull) })
		time.Sleep(2 * time.Second)
		start(t.Context(), fine)
		close(b.open)
		wg.Wait()
	})
}

func TestRequestDeadlineBoundsTheWait(t *testing.T) {
	onFakes(t, withHandler(hang), func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max, s.Timeout = 1, time.Hour })
		running := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { running <- r.call(ctx, spec, "r") }()
		synctest.Wait()
		for _, left := range []time.Duration{2 * time.Second, 0, -time.Second} {
			req, began := request("w"), time.Now()
			req.Deadline = began.Add(left)
			_, err := r.Invoke(t.Context(), spec, req)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, plugins.ErrNotStarted) {
				t.Errorf("with %v left: got %v", left, err)
			}
			if took := time.Since(began); took != max(left, 0) {
				t.Errorf("waited %v, want %v", took, left)
			}
		}
		cancel()
		if err := <-running; !errors.Is(err, context.Canceled) {
			t.Errorf("the running call got %v", err)
		}
	})
}

func TestWaitWithoutADeadlineIsBounded(t *testing.T) {
	onFakes(t, withHandler(hang), func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max, s.Timeout, s.StartTimeout = 1, 2*time.Hour, time.Hour })
		running := make(chan error, 1)
		go func() { running <- r.call(t.Context(), spec, "r") }()
		time.Sleep(time.Second)
		// A shorter timeout for the second call only: the limit is the newest spec's.
		hasty := testSpec(func(s *Spec) { s.Max, s.Timeout, s.StartTimeout = 1, time.Second, time.Second })
		began := time.Now()
		err := r.call(t.Context(), hasty, "w")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, plugins.ErrNotStarted) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("waited %v, want 2s", took)
		}
		if err := <-running; !errors.Is(err, ErrTimeout) {
			t.Errorf("the running call got %v", err)
		}
	})
}

func TestConcurrencyPacksCallsIntoOneInstance(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Concurrency = 4 })
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := r.call(t.Context(), spec, "r"); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		var most []int
		for _, f := range r.l.instances() {
			most = append(most, f.crowd())
		}
		if !slices.Equal(most, []int{4, 2}) {
			t.Errorf("calls per instance: %v, want 4 and 2", most)
		}
		close(b.open)
		wg.Wait()
	})
}

func TestNewSharesTakeEffectAtOnce(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		call := func(limit int) {
			wg.Go(func() {
				if err := r.call(t.Context(), testSpec(func(s *Spec) { s.Max = limit }), "r"); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		call(1)
		call(1)
		if l := r.Load(testSpec().Key); l.Instances != 1 || l.Queued != 1 {
			t.Fatalf("load with max 1 is %+v", l)
		}
		call(3)
		if l := r.Load(testSpec().Key); l.Instances != 3 || l.Queued != 0 {
			t.Errorf("load with max 3 is %+v", l)
		}
		close(b.open)
		wg.Wait()
	})
}

func TestScaleHookIsAskedAgainWhileCallsWait(t *testing.T) {
	var b *barrier
	var asked []ScaleInput
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		b = newBarrier()
		l.handler, l.initTime = b.handle, 4*time.Millisecond
		cfg.Scale = func(in ScaleInput) bool {
			asked = append(asked, in)
			return in.Waited > 50*time.Millisecond
		}
	}, func(t *testing.T, r *rig) {
		spec := testSpec()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := r.call(t.Context(), spec, "r"); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		if l := r.Load(spec.Key); l.Instances != 1 || l.Queued != 1 {
			t.Errorf("load before the hook agrees is %+v", l)
		}
		time.Sleep(100 * time.Millisecond)
		if l := r.Load(spec.Key); l.Instances != 2 || l.Queued != 0 {
			t.Errorf("load after the hook agreed is %+v", l)
		}
		close(b.open)
		wg.Wait()
		if first := asked[0]; first.Cold != 4*time.Millisecond || first.Queued != 1 || first.InFlight != 1 || first.Concurrency != 1 {
			t.Errorf("the hook was first asked about %+v", first)
		}
	})
}

// Starts are decided when calls come, but done a few at a time. Those whose calls
// were served meanwhile do not happen.
func TestStartsThatAreNotNeededAnyMoreDoNotHappen(t *testing.T) {
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		cfg.Starts = 2
		l.initTime = 20 * time.Millisecond
		l.handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
			time.Sleep(time.Millisecond)
			return echo(ctx, f, call)
		}
	}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				if err := r.call(t.Context(), testSpec(), "r"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if n := len(r.l.instances()); n > 6 {
			t.Errorf("%d instances were started for 64 calls of 1 ms, two starts at a time", n)
		}
	})
}

func TestReconcileEndsVersionsThatAreNotWanted(t *testing.T) {
	var b *barrier
	onFakes(t, func(_ *Config, l *fakeLauncher) { b = newBarrier(); l.handler = b.handle }, func(t *testing.T, r *rig) {
		spec := testSpec()
		result := make(chan error, 1)
		go func() { result <- r.call(t.Context(), spec, "r") }()
		synctest.Wait()
		r.Reconcile(nil)
		time.Sleep(10 * time.Second)
		if r.l.living() != 1 {
			t.Fatal("an instance with a call in it was ended")
		}
		close(b.open)
		if err := <-result; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := r.l.living(); n != 0 || !r.l.instances()[0].drained {
			t.Errorf("%d instances after the last call, drained %v", n, r.l.instances()[0].drained)
		}
		if n := len(*r.pools.Load()); n != 0 {
			t.Errorf("%d pools are kept for nothing", n)
		}
		if err := r.call(t.Context(), spec, "late"); err != nil {
			t.Errorf("a late call of the version: %v", err)
		}
	})
}

func TestReconcileKeepsTheMinimumWarm(t *testing.T) {
	onFakes(t, nil, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Min, s.IdleTTL = 3, time.Second })
		r.Reconcile([]Spec{*spec})
		synctest.Wait()
		if l := r.Load(spec.Key); l.Instances != 3 || l.Free != 3 {
			t.Fatalf("load is %+v, want 3 instances", l)
		}
		r.l.instances()[0].exit(stateOf(1))
		time.Sleep(time.Minute)
		if l := r.Load(spec.Key); l.Instances != 3 {
			t.Errorf("load is %+v after a crash and a minute of idleness", l)
		}
		resp, err := r.Invoke(t.Context(), spec, request("r"))
		if err != nil || resp.Cold {
			t.Errorf("a call of a warm version: cold %v, %v", resp.Cold, err)
		}
		r.Reconcile([]Spec{*testSpec(func(s *Spec) { s.IdleTTL = time.Second })})
		time.Sleep(5 * time.Second)
		if l := r.Load(spec.Key); l.Instances != 0 {
			t.Errorf("load is %+v without a minimum", l)
		}
	})
}

// TestAccountsBalance throws random calls, crashes and changes of shares at a
// pool and checks at rest that nothing was lost or counted twice.
func TestAccountsBalance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 60).Draw(rt, "steps")
		concurrency := rapid.IntRange(1, 3).Draw(rt, "concurrency")
		limit := rapid.IntRange(0, 4).Draw(rt, "max")
		queue := rapid.IntRange(0, 5).Draw(rt, "queue")
		problems := make(chan string, 1000)
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(_ *Config, l *fakeLauncher) {
				l.initTime = 2 * time.Millisecond
				l.handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
					time.Sleep(3 * time.Millisecond)
					return echo(ctx, f, call)
				}
			})
			spec := testSpec(func(s *Spec) { s.Concurrency, s.Max, s.Queue = concurrency, limit, queue })
			var wg sync.WaitGroup
			for i, step := range steps {
				switch step {
				case 0:
					time.Sleep(time.Millisecond)
				case 1:
					if all := r.l.instances(); len(all) > 0 {
						all[len(all)-1].exit(stateOf(1))
					}
				case 2:
					r.Reconcile(nil)
				default:
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
						defer cancel()
						_ = r.call(ctx, spec, "r")
					})
				}
				for _, f := range r.l.instances() {
					if n := f.crowd(); n > concurrency {
						problems <- fmt.Sprintf("%d calls at once in one instance", n)
					}
				}
				if l := r.Load(spec.Key); limit > 0 && l.Instances+l.Starting > limit {
					problems <- fmt.Sprintf("load %+v exceeds max %d", l, limit)
				}
			}
			wg.Wait()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			l := r.Load(spec.Key)
			if l.InFlight != 0 || l.Queued != 0 || l.Starting != 0 || l.Free != l.Instances*concurrency || l.Instances != r.l.living() {
				problems <- fmt.Sprintf("load at rest is %+v with %d living", l, r.l.living())
			}
			r.stop(t)
		})
		close(problems)
		var all []string
		for p := range problems {
			all = append(all, p)
		}
		if len(all) > 0 {
			rt.Fatal(strings.Join(all, "\n"))
		}
	})
}

func TestWarmStartsInstancesAheadOfCallsAndKeepsThemAWhile(t *testing.T) {
	onFakes(t, func(_ *Config, l *fakeLauncher) { l.initTime = time.Second }, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max, s.IdleTTL = 3, 5*time.Second })
		if err := r.Warm(spec, 2); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if l := r.Load(spec.Key); l.Starting != 2 || l.Instances != 0 {
			t.Fatalf("load is %+v, want 2 starting", l)
		}
		time.Sleep(2 * time.Second)
		if err := r.Warm(spec, 5); err != nil { // no more than the share
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if l := r.Load(spec.Key); l.Instances != 3 || l.Free != 3 {
			t.Errorf("load is %+v beyond the idle time, want 3", l)
		}
		resp, err := r.Invoke(t.Context(), spec, request("r"))
		if err != nil || resp.Cold {
			t.Errorf("first call: cold %v, %v", resp.Cold, err)
		}
		time.Sleep(aheadFor)
		if l := r.Load(spec.Key); l.Instances != 0 {
			t.Errorf("load is %+v long after", l)
		}
	})
}
