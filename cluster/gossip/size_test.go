package gossip

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// swarmSize is how many members the tests of size start; the measurements in
// docs/gossip.md set it with COVEY_GOSSIP_MEMBERS.
func swarmSize(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("COVEY_GOSSIP_MEMBERS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if os.Getenv("COVEY_SOAK") != "" {
		return 200
	}
	return 40
}

// span is how long something goes on: full where figures are wanted, a sixth of it
// where only the behaviour counts.
func span(full time.Duration) time.Duration {
	if os.Getenv("COVEY_SOAK")+os.Getenv("COVEY_GOSSIP_MEMBERS") == "" {
		return full / 6
	}
	return full
}

// inSwarm runs f with a swarm that has found together, in virtual time.
func inSwarm(t *testing.T, seed uint64, f func(t *testing.T, s *swarm)) {
	n := swarmSize(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t, n, newNetwork(seed, 500*time.Microsecond), DefaultTimings())
		// What memberlist leaves running ends by itself within its timeouts.
		defer time.Sleep(5 * time.Minute)
		defer s.close()
		start := time.Now()
		if err := await(10*time.Minute, s.together); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d members found together after %v", n, time.Since(start))
		time.Sleep(span(time.Minute)) // The news of the joins die down.
		f(t, s)
	})
}

// measure makes changes at a rate for some time and logs their spread and cost.
func (s *swarm) measure(t *testing.T, name string, perSecond int, span time.Duration) {
	t.Helper()
	s.forget()
	before, streamBefore := s.bytes()
	start := time.Now()
	for i := range perSecond * int(span/time.Second) {
		s.announce(i%len(s.members), s.next.Add(1))
		time.Sleep(time.Second / time.Duration(perSecond))
	}
	time.Sleep(span - time.Since(start)) // Without changes: just wait.
	sent, stream := s.bytes()
	perMember := func(n int64) float64 {
		return float64(n) / float64(len(s.members)) / span.Seconds()
	}
	err := await(30*time.Minute, s.spread)
	half, most, all, worst, missing := s.times()
	t.Logf("%s: 50%% %.2fs, 99%% %.2fs, 100%% %.2fs, worst %.2fs, missing %d; %.0f B/s and member, of it push/pull %.0f",
		name, half.Seconds(), most.Seconds(), all.Seconds(), worst.Seconds(), missing,
		perMember(sent-before), perMember(stream-streamBefore))
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// nobodyDied fails if a member, all of which live, was declared dead.
func (s *swarm) nobodyDied(t *testing.T, when string) {
	t.Helper()
	t.Logf("%s: suspected %d, declared dead %d", when, s.suspects.Load(), s.deaths.Load())
	if n := s.deaths.Load(); n != 0 {
		t.Errorf("%s: living members were declared dead %d times", when, n)
	}
}

// TestWarmSetsSpreadAtSize: every change reaches everybody, and nobody is taken
// for dead, whether or not packets are lost. The tests with a swarm are not parallel:
// they would take the processors from tests in real time.
func TestWarmSetsSpreadAtSize(t *testing.T) {
	for _, loss := range []int64{0, 100} {
		t.Run(fmt.Sprintf("loss %d in 1000", loss), func(t *testing.T) {
			inSwarm(t, 1, func(t *testing.T, s *swarm) {
				s.net.loss.Store(loss)
				s.measure(t, "idle", 0, span(time.Minute))
				s.measure(t, "1 change/s", 1, span(30*time.Second))
				s.measure(t, "10 changes/s", 10, span(30*time.Second))
				s.nobodyDied(t, "at rest")
			})
		})
	}
}

// TestStarvedMembersAreNotTakenForDead: members that stop for up to a second and
// a half, a fifth of them at any time, are at worst suspected.
func TestStarvedMembersAreNotTakenForDead(t *testing.T) {
	inSwarm(t, 2, func(t *testing.T, s *swarm) {
		ctx, cancel := context.WithCancel(t.Context())
		var starving sync.WaitGroup
		starving.Go(func() { s.starve(ctx, 1500*time.Millisecond) })
		time.Sleep(span(time.Minute))
		s.measure(t, "starved, 1 change/s", 1, span(30*time.Second))
		cancel()
		starving.Wait()
		s.nobodyDied(t, "starved")
		if err := await(10*time.Minute, s.together); err != nil {
			t.Error(err)
		}
	})
}
