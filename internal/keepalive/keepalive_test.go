package keepalive

import (
	"testing"
	"time"
)

func TestPriorityPrefersWhatIsCalledOftenDearAndSmall(t *testing.T) {
	t.Parallel()
	base := Priority(5, 10, 100*time.Millisecond, 128<<20)
	cases := []struct {
		name   string
		value  float64
		higher bool
	}{
		{"called more often", Priority(5, 11, 100*time.Millisecond, 128<<20), true},
		{"dearer to start", Priority(5, 10, 200*time.Millisecond, 128<<20), true},
		{"larger", Priority(5, 10, 100*time.Millisecond, 256<<20), false},
		{"used longer ago", Priority(4, 10, 100*time.Millisecond, 128<<20), false},
		{"of unknown cost", Priority(5, 10, 0, 128<<20), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if (c.value > base) != c.higher {
				t.Errorf("priority %v against %v", c.value, base)
			}
		})
	}
}

func TestClockNeverMovesBack(t *testing.T) {
	t.Parallel()
	var c Clock
	c.Evicted(3)
	c.Evicted(2)
	if c != 3 {
		t.Errorf("clock is %v, want 3", c)
	}
}

func TestRegularArrivalsAreExpected(t *testing.T) {
	t.Parallel()
	every := func(gaps ...time.Duration) *Arrivals {
		a := &Arrivals{}
		for _, g := range gaps {
			a.Observe(g)
		}
		return a
	}
	repeat := func(n int, gap time.Duration, more ...time.Duration) *Arrivals {
		for range n {
			more = append(more, gap)
		}
		return every(more...)
	}
	const minute = time.Minute
	cases := []struct {
		name    string
		a       *Arrivals
		regular bool
		within  time.Duration
	}{
		{"nothing known", every(), false, 0},
		{"three of a kind", repeat(3, 15*minute), false, 0},
		{"four of a kind", repeat(4, 15*minute), true, 15 * minute},
		{"with a little jitter", every(15*minute, 14*minute, 16*minute, 15*minute), true, 15 * minute},
		{"seconds", repeat(8, 20*time.Second), true, 20 * time.Second},
		{"a day", repeat(5, 24*time.Hour), true, 24 * time.Hour},
		{"one call by hand among sixteen", repeat(14, 15*minute, 4*minute, 11*minute), true, 15 * minute},
		{"a burst at each time", repeat(6, 15*minute, time.Millisecond, 20*time.Millisecond), true, 15 * minute},
		{"irregular", every(minute, 9*minute, 2*minute, 30*minute, 4*minute), false, 0},
		{"two periods", every(minute, 10*minute, minute, 10*minute, minute, 10*minute), false, 0},
		{"a schedule that changed", repeat(16, 5*minute, 15*minute, 15*minute, 15*minute), true, 5 * minute},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, ok := c.a.Expect()
			if ok != c.regular {
				t.Fatalf("regular is %v, want %v (%+v)", ok, c.regular, w)
			}
			if ok && (w.From >= c.within || w.To <= c.within || w.To-w.From > c.within/2) {
				t.Errorf("window %+v around %v", w, c.within)
			}
		})
	}
}

func TestArrivalsDoNotAllocate(t *testing.T) {
	var a Arrivals
	if n := testing.AllocsPerRun(100, func() { a.Observe(time.Minute); a.Expect() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
