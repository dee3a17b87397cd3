package keepalive

import (
	"slices"
	"time"
)

const (
	// remembered is how many idle times are kept: enough that one or two odd ones
	// are told from the rule, few enough that a changed schedule is learned soon.
	remembered = 16
	// convincing is how many idle times make a rule.
	convincing = 4
	// ShortestGap is the shortest idle time that counts. What comes sooner finds its
	// instance alive, and the bursts of a schedule must not hide its period.
	ShortestGap = time.Second
	// spread is how far the longest idle time may lie above the shortest, as a part
	// of it, for arrivals to be regular: an instance that is started ahead waits for
	// its call for about so long.
	spread = 0.25
	// margin widens the expected window on both sides, as a part of the idle time.
	margin = 0.1
)

// Arrivals learns from a version's idle times whether its calls come regularly.
// The zero value is ready for use and 160 bytes large; its methods do not allocate.
//
// Shahrad et al. ("Serverless in the Wild", ATC 2020) keep a histogram of four
// hours in minutes per function and read from its head when to start an instance
// and from its tail how long to keep it. Here the head and tail are those of the
// last 16 idle times, for three reasons: what is regular is nearly always a timer
// or a poll, with one period and little spread, which a handful of samples shows;
// a new schedule is known after four calls where a histogram remembers the old one
// for hours; and periods of seconds and of a day work alike, without a range that
// has to be chosen. What it cannot learn is a pattern of several periods: that is
// left to the plain keep-alive, as the paper does where a histogram says nothing.
type Arrivals struct {
	gaps [remembered]time.Duration
	n    int // gaps ever seen
}

// Observe adds the time for which a version had no call, from the end of the last
// to the arrival of the next.
func (a *Arrivals) Observe(idle time.Duration) {
	if idle < ShortestGap {
		return
	}
	a.gaps[a.n%remembered] = idle
	a.n++
}

// Window is when a call is expected, counted from the end of the last one.
type Window struct {
	// From is when an instance should be ready, To until when it is worth keeping.
	From, To time.Duration
}

// Expect returns the window of the next call. It reports false when arrivals are
// not regular, or not known to be.
func (a *Arrivals) Expect() (Window, bool) {
	n := min(a.n, remembered)
	if n < convincing {
		return Window{}, false
	}
	sorted := a.gaps
	known := sorted[:n]
	slices.Sort(known)
	// One in eight may be an exception at either end: a call by hand in between
	// shortens one gap, a missed one lengthens one.
	head, tail := known[n/8], known[n-1-n/8]
	if float64(tail) > float64(head)*(1+spread) {
		return Window{}, false
	}
	return Window{
		From: head - time.Duration(margin*float64(head)),
		To:   tail + time.Duration(margin*float64(tail)),
	}, true
}
