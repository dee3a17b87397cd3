// Package clock is the wall clock as a dependency, so that a test can give one
// node a wrong one. It is only for times that are stored or shown: certificate
// lifetimes, token expiry, the time a command carries. Durations are measured
// with the time package, whose readings are monotonic.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock tells the wall-clock time. Implementations are safe for concurrent use.
type Clock interface {
	// Now returns the current time. It never blocks.
	Now() time.Time
}

// System is the machine's own clock.
type System struct{}

// Now returns time.Now.
func (System) Now() time.Time { return time.Now() }

// Skewed is a clock that is wrong by a settable offset. The zero value is right.
type Skewed struct {
	// Base is the clock that the offset is added to; nil means System.
	Base Clock

	offset atomic.Int64
}

// Now returns the base clock's time plus the offset.
func (s *Skewed) Now() time.Time {
	base := s.Base
	if base == nil {
		base = System{}
	}
	return base.Now().Add(time.Duration(s.offset.Load()))
}

// Skew makes the clock wrong by d from the next reading on; a negative d makes
// it run behind.
func (s *Skewed) Skew(d time.Duration) { s.offset.Store(int64(d)) }
