package assign

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/state"
)

// worker is a node that keeps to the rules: it begins nothing beyond the share that it
// knows of, and nothing when it knew the leader's state too long ago.
type worker struct {
	id     string
	share  int
	synced time.Time
	index  state.Index
	begun  []time.Time
	// cut off, it hears of nothing.
	cut bool
}

// reserveTimeout is that of the function under test, the default.
const reserveTimeout = state.DefaultTimeout

func (w *worker) sync(s *scenario) {
	view := s.store.View()
	w.synced, w.index = s.now, view.Index()
	w.share = view.Reservation(reservedFn).Place(state.NodeID(w.id)).Share
}

// begin fills the node's share.
func (w *worker) begin(now time.Time) {
	for len(w.begun) < w.share && now.Sub(w.synced) < ReserveLease {
		w.begun = append(w.begun, now)
	}
}

// expire ends what ran into its timeout.
func (w *worker) expire(now time.Time) {
	w.begun = slices.DeleteFunc(w.begun, func(at time.Time) bool { return now.Sub(at) > reserveTimeout })
}

var reservedFn = state.FunctionKey{App: "shop", Name: "till"}

// TestReservedIsNeverExceeded lets nodes that hear of things late, leaders that come and
// go, and a planner meet, and counts what runs.
func TestReservedIsNeverExceeded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScenario()
		reserved := rapid.Uint32Range(1, 9).Draw(t, "reserved")
		workers := make([]*worker, rapid.IntRange(1, 5).Draw(t, "nodes"))
		for i := range workers {
			workers[i] = &worker{id: fmt.Sprint("n", i+1)}
			if err := s.node(workers[i].id, "amd64", "go"); err != nil {
				t.Fatal(err)
			}
		}
		deploy := func() {
			if err := s.deployWith("till", "", 0, 1, 0, reserved); err != nil {
				t.Fatal(err)
			}
		}
		deploy()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w := workers[rapid.IntRange(0, len(workers)-1).Draw(t, "node")]
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				w.cut = !w.cut
				_ = s.setSilent(w.id, w.cut)
			case 2:
				w.begun = w.begun[rapid.IntRange(0, len(w.begun)).Draw(t, "ended"):]
			case 3:
				if p := s.store.View().Reservation(reservedFn).Place(state.NodeID(w.id)); w.index >= p.Since && len(w.begun) <= p.Share {
					s.giveUp(w.id)
				}
			case 4, 5, 6:
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
			case 7:
				_ = s.drain(w.id, rapid.Bool().Draw(t, "on"))
			case 8:
				deploy()
			default:
				s.waits.first = nil // another node leads
			}
			for _, w := range workers {
				w.expire(s.now)
			}
			if rapid.IntRange(0, 3).Draw(t, "plan") > 0 {
				s.reserve(t)
			}
			// Whoever can begins as much as it may, whoever is cut off as well.
			for _, w := range workers {
				if !w.cut && rapid.IntRange(0, 3).Draw(t, "sync") > 0 {
					w.sync(s)
				}
				w.begin(s.now)
			}
			running := 0
			for _, w := range workers {
				running += len(w.begun)
			}
			if running > int(reserved) {
				t.Fatalf("%d run at once, reserved are %d: %s", running, reserved, s.shares())
			}
		}
	})
}

// TestAllOfAReservationIsHandedOut: when all is quiet, every execution that is reserved
// is in somebody's share, and shares differ by at most one.
func TestAllOfAReservationIsHandedOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScenario()
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			drawStep(t, s)
			_ = s.deployWith("till", "", 0, 1, 0, rapid.Uint32Range(0, 20).Draw(t, "reserved"))
			s.reserve(t)
		}
		for range 2 { // what is silent is cut first, and granted anew after a while
			s.now = s.now.Add(SilentAfter + ReserveLease + reserveTimeout + reserveGrace)
			s.reserve(t)
		}
		view := s.store.View()
		f, r := view.Function("shop", "till"), view.Reservation(reservedFn)
		able := 0
		if f != nil {
			able = len(view.Runners(f, liveMembers(view, s.live(), s.now)))
		}
		if able == 0 || r == nil {
			return
		}
		sum, least, most := 0, 0, 0
		if len(r.Places) == able {
			least = r.Places[0].Share
		}
		for _, p := range r.Places {
			sum, least, most = sum+p.Share, min(least, p.Share), max(most, p.Share)
		}
		if sum != f.Reserved() || most-least > 1 {
			t.Fatalf("%d reserved over %d nodes: %s", f.Reserved(), able, s.shares())
		}
	})
}

func TestLoopGrantsAShareAnewWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1", "n2")
		c.change(t, func() error { return c.scenario.deployWith("till", "", 0, 1, 0, 4) })
		stop := lead(t, c)
		defer stop()
		// Nobody hears of n2: 15 s, then 10 s, its timeout and 2 s.
		shares := func() string {
			synctest.Wait()
			return c.scenario.shares()
		}
		for _, at := range []struct {
			wait time.Duration
			want string
		}{
			{14 * time.Second, "shop/till: n1 2 n2 2\n"},
			{3 * time.Second, "shop/till: n1 2 n2 0(+2 withheld)\n"},
			{38 * time.Second, "shop/till: n1 2 n2 0(+2 withheld)\n"},
			{5 * time.Second, "shop/till: n1 4\n"},
		} {
			time.Sleep(at.wait) // of the bubble
			if got := shares(); got != at.want {
				t.Errorf("after %v more: %q, want %q", at.wait, got, at.want)
			}
		}
	})
}
