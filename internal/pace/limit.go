// Package pace says how many instances may be starting at once on a node: as many
// as its processors have room for, which it measures instead of counting. A start
// that waits for a disk or for another service leaves the processors free, and a
// node whose processors are busy with calls has no room for starts.
//
// Limit is pure; Pressure reads the kernel.
package pace

import "time"

const (
	// easy and crowded are the pressures below which the limit rises and above which
	// it falls. Between them it stays, so that it does not swing.
	easy, crowded = 0.4, 0.8
	// most is how far the limit may rise above what it is without measurements.
	// It is bounded since starts also take memory, descriptors and locks of the
	// kernel, which no pressure tells.
	most = 8
	// stale is how old a measurement may be to be believed.
	stale = 2 * time.Second
)

// Limit is the number of starts at once. It rises by one for each measurement of
// easy processors while starts wait, and falls by a quarter for each of crowded
// ones: slowly up, quickly down, as TCP does.
type Limit struct {
	base  int
	limit int
	at    time.Time // of the newest measurement
}

// NewLimit returns a limit that is base as long as nothing is measured.
func NewLimit(base int) Limit { return Limit{base: max(base, 1), limit: max(base, 1)} }

// Observe takes a measurement of the time since the last one: the part of it for
// which something that could have run had to wait for a processor, from 0 to 1.
// wanted tells that starts waited for the limit; without that it does not rise.
func (l *Limit) Observe(pressure float64, wanted bool, now time.Time) {
	l.at = now
	switch {
	case pressure > crowded:
		// At half of base calls still get their instances while others run.
		l.limit = max(l.limit*3/4, (l.base+1)/2)
	case pressure < easy && wanted:
		l.limit = min(l.limit+1, l.base*most)
	case pressure < easy && l.limit < l.base:
		l.limit++
	}
}

// Now returns the limit, which is base again when measurements have stopped.
func (l *Limit) Now(now time.Time) int {
	if now.Sub(l.at) > stale {
		l.limit = l.base
	}
	return l.limit
}
