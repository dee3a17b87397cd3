package group

import (
	"testing"
	"time"
)

// electionsAfterStalls stalls writes for a second, round by round, on the given
// nodes at once, and returns how many elections followed. The timings are the
// production ones.
func electionsAfterStalls(t *testing.T, rounds int, vouchAfter time.Duration, pick func(w *world, leader *node) []*node) uint64 {
	t.Helper()
	f := newFaults()
	w := newVoters(t, 3, func(c *Config) {
		f.tune(c)
		c.Timings = DefaultTimings()
		c.vouchAfter = vouchAfter
	})
	w.propose("a=0")
	before := w.leader().group.Stats().Term
	for range rounds {
		for _, nd := range pick(w, w.leader()) {
			f.of(nd).stall(time.Second)
		}
		w.propose("a=1")
	}
	w.agree(w.nodes...)
	return w.leader().group.Stats().Term - before
}

// TestHeartbeats decides which path heartbeats take; see type transport.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	followers := func(w *world, leader *node) []*node { return w.others(leader) }
	tests := []struct {
		name       string
		vouchAfter time.Duration
		pick       func(*world, *node) []*node
		elections  bool
	}{
		{"one follower", 0, func(w *world, l *node) []*node { return w.others(l)[:1] }, false},
		{"leader", 0, func(_ *world, l *node) []*node { return []*node{l} }, false},
		{"both followers", 0, followers, false},
		{"all", 0, func(w *world, _ *node) []*node { return w.nodes }, false},
		// The plain queue, as if the library's fast path were merely switched off.
		{"both followers without vouching", time.Hour, followers, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A starved machine holds elections of its own now and then, the stall
			// itself every time, so one round without is enough.
			var n uint64
			for range 4 {
				n = electionsAfterStalls(t, times(1, 20), tt.vouchAfter, tt.pick)
				if (n > 0) == tt.elections {
					return
				}
			}
			t.Errorf("%d elections after one-second stalls, want some: %v", n, tt.elections)
		})
	}
}
