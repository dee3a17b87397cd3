package workload

import (
	"math"
	"math/rand/v2"
)

// source is one stream of arrivals of one function or of several. Its template is
// shared; each walk copies it and steps the copy. Times are seconds.
type source struct {
	rate float64
	// first is the first arrival, when it is not to be drawn.
	first float64
	// period is that of a timer; zero elsewhere.
	period float64
	// leap raises the rate for a while; nil elsewhere.
	leap *leap
	// levels multiply the rate, each for an exponential time of mean stays. A source
	// without levels is a Poisson process.
	levels, stays []float64
	// swings says that the diurnal swing thins it.
	swings bool
	// counts are the arrivals in each minute of a recorded trace; nil elsewhere.
	counts []minuteCount
	// offset is when the workload begins in the trace.
	offset float64
	// pick chooses the function.
	pick picker

	level, left int
	until       float64
	started     bool
}

// minuteCount is how many calls a minute of a trace has.
type minuteCount struct{ minute, count uint32 }

// next returns the arrival after t, or a time from end on when there is none before.
func (s *source) next(t, end float64, r *rand.Rand) float64 {
	switch {
	case s.first > 0 && !s.started:
		s.started = true
		return s.first
	case s.period > 0:
		return t + s.period
	case s.leap != nil:
		return s.leap.next(t, s.rate, r)
	case s.counts != nil:
		return s.nextCounted(t, r)
	case s.rate == 0:
		return end
	case len(s.levels) == 0:
		return t + r.ExpFloat64()/s.rate
	}
	return s.nextModulated(t, end, r)
}

// nextModulated steps a Poisson process whose rate changes with the level. What is
// drawn beyond a change is thrown away and drawn again: the process has no memory. The
// end bounds the changes that a rarely called function goes through without a call.
func (s *source) nextModulated(t, end float64, r *rand.Rand) float64 {
	if !s.started {
		s.started = true
		s.level = s.stationary(r)
		s.until = r.ExpFloat64() * s.stays[s.level]
	}
	for t < end {
		if rate := s.rate * s.levels[s.level]; rate > 0 {
			if at := t + r.ExpFloat64()/rate; at <= s.until {
				return at
			}
		}
		t = s.until
		// Any other level follows, all alike.
		s.level = (s.level + 1 + r.IntN(len(s.levels)-1)) % len(s.levels)
		s.until = t + r.ExpFloat64()*s.stays[s.level]
	}
	return end
}

// stationary draws the level at time zero by the part of the time spent in each.
func (s *source) stationary(r *rand.Rand) int {
	var all float64
	for _, stay := range s.stays {
		all += stay
	}
	x := r.Float64() * all
	for i, stay := range s.stays {
		if x -= stay; x < 0 {
			return i
		}
	}
	return len(s.stays) - 1
}

// nextCounted spreads the calls of a minute evenly at random. It draws the order
// statistics one after the other, which needs no memory for the calls of the minute.
func (s *source) nextCounted(t float64, r *rand.Rand) float64 {
	if s.left == 0 {
		if s.level == len(s.counts) {
			return math.Inf(1)
		}
		at := s.counts[s.level]
		s.level++
		s.left, t = int(at.count), 60*float64(at.minute)-s.offset
		s.until = t + 60
	}
	// The least of left uniform draws from the rest of the minute.
	t -= (s.until - t) * math.Expm1(-r.ExpFloat64()/float64(s.left))
	s.left--
	return t
}
