package fairshare

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Unix(1_700_000_000, 0)

func TestTheLeastUseGoesFirst(t *testing.T) {
	t.Parallel()
	var s Shares[string]
	now := epoch
	s.Hold("much", 9, now)
	s.Hold("little", 1, now)
	now = now.Add(time.Minute)
	s.Want("much", 1, now)
	s.Want("little", 1, now)
	if k, n := s.First(now); n != 1 || k != "little" {
		t.Errorf("first is %q", k)
	}
	s.Want("nothing", 1, now)
	if k, _ := s.First(now); k != "nothing" {
		t.Errorf("first is %q, want the newcomer", k)
	}
}

func TestAmongEqualsTheFirstToComeIsNext(t *testing.T) {
	t.Parallel()
	var s Shares[int]
	for k := range 20 {
		s.Want(k, 1, epoch)
	}
	for k := range 20 {
		s.Want(k, 1, epoch) // renewing keeps the place
		if got, n := s.First(epoch); n != 1 || got != k {
			t.Fatalf("first is %d, want %d", got, k)
		}
		s.Want(k, 0, epoch)
	}
	if _, n := s.First(epoch); n != 0 {
		t.Error("nobody wants anything")
	}
}

func TestWishThatIsNotRenewedLapses(t *testing.T) {
	t.Parallel()
	var s Shares[string]
	s.Want("gone", 1, epoch)
	now := epoch.Add(wantsFor)
	if _, n := s.First(now); n != 0 || s.Waiting(now) != 0 {
		t.Error("a wish outlives its time")
	}
	if s.Forget(now); len(s.accounts) != 0 {
		t.Errorf("%d accounts are kept for nothing", len(s.accounts))
	}
}

func TestUseFades(t *testing.T) {
	t.Parallel()
	var s Shares[string]
	now := epoch
	s.Hold("once", 10, now)
	now = now.Add(time.Hour)
	s.Hold("once", -10, now)
	now = now.Add(10 * time.Minute)
	s.Want("once", 1, now)
	s.Want("never", 1, now)
	if a, b := s.accounts["once"].weight(0), s.accounts["never"].weight(0); a-b > negligible {
		t.Errorf("use of ten minutes ago still weighs %v", a)
	}
}

func TestNobodyOvertakesOneWithLess(t *testing.T) {
	t.Parallel()
	var s Shares[string]
	s.Hold("much", 5, epoch)
	if !s.Before("much", 1, epoch) {
		t.Error("nobody waits, and yet it may not")
	}
	s.Want("little", 1, epoch)
	if s.Before("much", 1, epoch) || s.Before("newcomer", 1, epoch) {
		t.Error("one who waits is overtaken")
	}
	if !s.Before("little", 1, epoch) || !s.Before("tiny", 0.5, epoch) {
		t.Error("the one with the least may not")
	}
	order := func(yield func(string) bool) { _ = yield("much") && yield("x") && yield("y") }
	if k, ok := s.Least(order, epoch); !ok || k != "x" {
		t.Errorf("the least of all is %q", k)
	}
}

func TestHolderYieldsToOneWithLess(t *testing.T) {
	t.Parallel()
	var s Shares[string]
	s.Hold("a", 2, epoch)
	if s.Yields("a", epoch) {
		t.Error("yields to nobody")
	}
	s.Want("a", 1, epoch)
	if s.Yields("a", epoch) {
		t.Error("yields to itself")
	}
	s.Want("b", 1, epoch)
	if !s.Yields("a", epoch) {
		t.Error("does not yield to one that has nothing")
	}
	s.Want("b", 0, epoch)
	s.Want("big", 3, epoch)
	if s.Yields("a", epoch) {
		t.Error("yields to one that would be ahead")
	}
}

// TestGreedyHoldersEndUpEqual lets holders of which each wants everything hand
// over one unit per step, as instances do at the ends of their calls.
func TestGreedyHoldersEndUpEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "holders")
		capacity := rapid.IntRange(n, 40).Draw(t, "capacity")
		step := time.Duration(rapid.IntRange(10, 500).Draw(t, "step")) * time.Millisecond
		var s Shares[int]
		held, used := make([]int, n), make([]float64, n)
		now := epoch
		held[0] = capacity // the first has all of it
		s.Hold(0, float64(capacity), now)
		for range 4000 {
			now = now.Add(step)
			for k := range n {
				s.Want(k, 1, now)
				used[k] += float64(held[k])
			}
			for k := range n {
				if held[k] == 0 || !s.Yields(k, now) {
					continue
				}
				s.Hold(k, -1, now)
				to, _ := s.First(now)
				s.Hold(to, 1, now)
				held[k]--
				held[to]++
				break
			}
		}
		fair := used[0]
		for _, u := range used {
			fair = min(fair, u)
		}
		if equal := 4000 * float64(capacity) / float64(n); fair < 0.7*equal {
			t.Errorf("the least of %v is below seven tenths of an equal share, %v", used, equal)
		}
	})
}
