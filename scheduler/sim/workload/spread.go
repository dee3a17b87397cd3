package workload

import (
	"math"
	"math/rand/v2"
	"time"
)

// knots are the parts of the runs that are below each point of a spread.
var knots = [...]float64{0, 0.01, 0.25, 0.5, 0.75, 0.99, 1}

// spread is the distribution of the runs of one function by its percentiles, in
// nanoseconds. Without points its runs are log-normal around the mean.
type spread struct {
	mean   float64
	known  bool
	points [len(knots)]float64
}

// newSpread makes a spread of what a trace says. Points that are missing (NaN) or out
// of order take the value of the one before; without a median there are no points.
//
// The mean of the distribution is the mean of its parts, and not what the trace says:
// the minimum and the maximum stretch the outer parts, of which the trace does not say
// more. A mean that differs from the runs that are drawn would mislead a scheduler.
func newSpread(average float64, points [len(knots)]float64) spread {
	const median = 3
	if !(points[median] > 0) {
		if !(average > 0) {
			return spread{}
		}
		return spread{mean: average}
	}
	s := spread{known: true, points: points}
	for i := median - 1; i >= 0; i-- {
		if !(s.points[i] <= s.points[i+1]) {
			s.points[i] = s.points[i+1]
		}
	}
	for i := median + 1; i < len(knots); i++ {
		if !(s.points[i] >= s.points[i-1]) {
			s.points[i] = s.points[i-1]
		}
	}
	for i := 1; i < len(knots); i++ {
		s.mean += (knots[i] - knots[i-1]) * meanBetween(s.points[i-1], s.points[i])
	}
	return s
}

// meanBetween is the mean of what draw yields between two points.
func meanBetween(low, high float64) float64 {
	if low < 1 || high-low < 1e-6*low {
		return (low + high) / 2
	}
	return (high - low) / math.Log(high/low)
}

// run draws one. Between two points it goes evenly in the logarithm, as runs spread
// over orders of magnitude; from a point below a nanosecond it goes evenly.
func (s *spread) run(r *rand.Rand) time.Duration {
	if !s.known {
		return LogNormal.run(s.mean, r)
	}
	u := r.Float64()
	i := 1
	for u >= knots[i] {
		i++
	}
	low, high := s.points[i-1], s.points[i]
	part := (u - knots[i-1]) / (knots[i] - knots[i-1])
	x := low + part*(high-low)
	if low >= 1 && high-low >= 1e-6*low {
		x = low * math.Pow(high/low, part)
	}
	return max(time.Duration(x), time.Microsecond)
}
