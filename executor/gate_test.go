package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

var errNoLeader = fmt.Errorf("no leader: %w", plugins.ErrNotStarted)

// shares is a node's share that tests change; below zero none may begin.
type shares struct{ atomic.Int32 }

func (s *shares) of(string, string) (int, error) {
	if n := s.Load(); n >= 0 {
		return int(n), nil
	}
	return 0, errNoLeader
}

// withShare holds every call until the barrier opens, and lets n in at once.
func withShare(n int32, s *shares, b *barrier) func(*Config, *fakeLauncher) {
	s.Store(n)
	return func(c *Config, l *fakeLauncher) {
		c.Share, l.handler = s.of, b.handle
	}
}

func reserved(change ...func(*Spec)) *Spec {
	return testSpec(append([]func(*Spec){func(s *Spec) { s.Reserved = true }}, change...)...)
}

// start calls and sends how it went.
func (r *rig) start(ctx context.Context, spec *Spec, id string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.call(ctx, spec, id) }()
	synctest.Wait()
	return done
}

func TestShareCountsAllVersionsAndSlots(t *testing.T) {
	var s shares
	var b *barrier
	onFakes(t, func(c *Config, l *fakeLauncher) { b = newBarrier(); withShare(3, &s, b)(c, l) }, func(t *testing.T, r *rig) {
		one := reserved(func(s *Spec) { s.Concurrency = 8 })
		two := reserved(func(s *Spec) { s.Version, s.Concurrency = 2, 8 })
		var calls []<-chan error
		for i := range 10 {
			calls = append(calls, r.start(t.Context(), []*Spec{one, two}[i%2], fmt.Sprint(i)))
		}
		if got := b.held(); got != 3 {
			t.Errorf("%d calls run, the share is 3", got)
		}
		if l := r.Load(one.Key); l.Entered != 3 || l.Waiting != 7 || r.Reserved("default", "hello") != 3 {
			t.Errorf("load is %+v", l)
		}
		// A share that grows is used at once.
		s.Store(5)
		r.Reconcile([]Spec{*one, *two})
		synctest.Wait()
		if got := b.held(); got != 5 {
			t.Errorf("%d calls run, the share is 5", got)
		}
		close(b.open)
		for _, c := range calls {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
		if n := r.Reserved("default", "hello"); n != 0 {
			t.Errorf("%d calls are counted after all have ended", n)
		}
	})
}

func TestShareRefusesBeyondTheQueue(t *testing.T) {
	var s shares
	var b *barrier
	onFakes(t, func(c *Config, l *fakeLauncher) { b = newBarrier(); withShare(1, &s, b)(c, l) }, func(t *testing.T, r *rig) {
		spec := reserved(func(s *Spec) { s.Queue = 1 })
		first, second := r.start(t.Context(), spec, "1"), r.start(t.Context(), spec, "2")
		if err := <-r.start(t.Context(), spec, "3"); !errors.Is(err, ErrReserved) || !errors.Is(err, plugins.ErrNotStarted) {
			t.Errorf("beyond the queue: %v", err)
		}
		// A caller that leaves makes room.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := <-r.start(ctx, spec, "4"); !errors.Is(err, ErrReserved) {
			t.Errorf("a full queue: %v", err)
		}
		close(b.open)
		for _, c := range []<-chan error{first, second} {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNothingBeginsWithoutALeader(t *testing.T) {
	var s shares
	var b *barrier
	onFakes(t, func(c *Config, l *fakeLauncher) { b = newBarrier(); withShare(1, &s, b)(c, l) }, func(t *testing.T, r *rig) {
		running := r.start(t.Context(), reserved(), "1")
		waiting := r.start(t.Context(), reserved(), "2")
		other := r.start(t.Context(), testSpec(func(s *Spec) { s.Function = "free" }), "3")
		s.Store(-1)
		if err := <-r.start(t.Context(), reserved(), "4"); !errors.Is(err, errNoLeader) {
			t.Errorf("a call without a leader: %v", err)
		}
		r.Reconcile([]Spec{*reserved()})
		if err := <-waiting; !errors.Is(err, errNoLeader) {
			t.Errorf("a call that waited: %v", err)
		}
		// What runs goes on, and so does what reserves nothing.
		close(b.open)
		for _, c := range []<-chan error{running, other} {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
	})
}

// A call that waits for a start is let in by a share that may be gone when the instance
// is ready.
func TestShareIsAskedForAgainAfterAStart(t *testing.T) {
	for name, tc := range map[string]struct {
		share int32
		want  error
	}{"no leader": {-1, errNoLeader}, "a lower share": {1, ErrReserved}} {
		t.Run(name, func(t *testing.T) {
			var s shares
			var ran atomic.Int32
			onFakes(t, func(c *Config, l *fakeLauncher) {
				withShare(2, &s, newBarrier())(c, l)
				l.initTime = 5 * time.Second
				l.handler = func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
					ran.Add(1)
					return echo(ctx, f, call)
				}
			}, func(t *testing.T, r *rig) {
				calls := []<-chan error{r.start(t.Context(), reserved(), "1"), r.start(t.Context(), reserved(), "2")}
				s.Store(tc.share)
				refused := 0
				for _, c := range calls {
					if err := <-c; errors.Is(err, tc.want) && errors.Is(err, plugins.ErrNotStarted) {
						refused++
					} else if err != nil {
						t.Errorf("got %v", err)
					}
				}
				if most := max(int(tc.share), 0); int(ran.Load()) > most || refused < 2-most {
					t.Errorf("%d calls ran, %d were refused, the share is %d", ran.Load(), refused, tc.share)
				}
				if n := r.Reserved("default", "hello"); n != 0 {
					t.Errorf("%d calls are counted after all have ended", n)
				}
			})
		})
	}
}

func TestShareIsHeldUntilATimedOutInstanceIsGone(t *testing.T) {
	var s shares
	onFakes(t, func(c *Config, l *fakeLauncher) { withShare(1, &s, newBarrier())(c, l); l.handler = hang }, func(t *testing.T, r *rig) {
		spec := reserved(func(s *Spec) { s.Timeout = time.Second })
		first := r.start(t.Context(), spec, "1")
		second := r.start(t.Context(), spec, "2")
		if n := r.l.living(); n != 1 {
			t.Errorf("%d instances run for a share of 1", n)
		}
		for _, c := range []<-chan error{first, second} {
			if err := <-c; !errors.Is(err, ErrTimeout) {
				t.Errorf("got %v", err)
			}
		}
		if n := r.Reserved("default", "hello"); n != 0 || r.l.living() != 0 {
			t.Errorf("%d calls are counted, %d instances live", n, r.l.living())
		}
	})
}

func TestWaitForAShareEndsWithTheCaller(t *testing.T) {
	var s shares
	var b *barrier
	onFakes(t, func(c *Config, l *fakeLauncher) { b = newBarrier(); withShare(1, &s, b)(c, l) }, func(t *testing.T, r *rig) {
		first := r.start(t.Context(), reserved(), "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := <-r.start(ctx, reserved(), "2"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, plugins.ErrNotStarted) {
			t.Errorf("got %v", err)
		}
		if l := r.Load(reserved().Key); l.Waiting != 0 || l.Entered != 1 {
			t.Errorf("load is %+v", l)
		}
		close(b.open)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// Calls that crash, time out, leave and end while the share goes up and down: what
// begins is never beyond the share of that moment, and nothing is left behind.
func TestShareHoldsUnderEverything(t *testing.T) {
	var s shares
	var mu sync.Mutex
	running := map[*fakeInstance]int{} // what runs in an instance ends with it
	count := func(f *fakeInstance, d int) (sum int) {
		mu.Lock()
		defer mu.Unlock()
		running[f] += d
		for f, n := range running {
			select {
			case <-f.gone:
				delete(running, f)
			default:
				sum += n
			}
		}
		return sum
	}
	handle := func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
		if n := count(f, 1); n > 4 {
			t.Errorf("%d calls run, shares never passed 4", n)
		}
		defer count(f, -1)
		switch call.RequestID[0] {
		case 'c':
			f.exit(sandbox.State{Code: 1})
			<-f.gone
			return nil, plugins.ErrClosed
		case 'h':
			return hang(ctx, f, call)
		}
		time.Sleep(7 * time.Millisecond)
		return echo(ctx, f, call)
	}
	onFakes(t, func(c *Config, l *fakeLauncher) { withShare(4, &s, newBarrier())(c, l); l.handler = handle }, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		for i := range 400 {
			spec := reserved(func(s *Spec) { s.Version, s.Timeout = uint64(i%2+1), 20*time.Millisecond })
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%50)*10*time.Millisecond)
				defer cancel()
				_ = r.call(ctx, spec, string("eeeeech"[i%7])+fmt.Sprint(i)) // any outcome
			})
			if i%10 == 0 {
				s.Store(int32(i/10%6 - 1))
				time.Sleep(5 * time.Millisecond)
			}
		}
		wg.Wait()
		s.Store(4)
		time.Sleep(time.Minute) // crash loops are over
		if n := r.Reserved("default", "hello"); n != 0 {
			t.Errorf("%d calls are counted after all have ended", n)
		}
		if err := r.call(t.Context(), reserved(), "e"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
