package workload

import (
	"math"
	"math/rand/v2"
	"time"
)

// source is one stream of arrivals of one function or of several. Its template is
// shared; each walk copies it and steps the copy. Times are seconds.
type source struct {
	rate float64
	// period is that of a timer; zero elsewhere. phase is the first tick.
	period, phase float64
	// levels multiply the rate, each for an exponential time of mean stays. A source
	// without levels is a Poisson process.
	levels, stays []float64
	// swings says that the diurnal swing thins it.
	swings bool
	// counts are the arrivals in each minute of a recorded trace; nil elsewhere.
	counts []minuteCount
	// pick chooses the function.
	pick picker

	level, left int
	until       float64
	started     bool
}

// minuteCount is how many calls a minute of a trace has.
type minuteCount struct{ minute, count uint32 }

// next returns the arrival after t, infinity when there is none.
func (s *source) next(t float64, r *rand.Rand) float64 {
	switch {
	case s.period > 0:
		if !s.started {
			s.started = true
			return s.phase
		}
		return t + s.period
	case s.counts != nil:
		return s.nextCounted(t, r)
	case len(s.levels) == 0:
		return t + r.ExpFloat64()/s.rate
	}
	return s.nextModulated(t, r)
}

// nextModulated steps a Poisson process whose rate changes with the level. What is
// drawn beyond a change is thrown away and drawn again: the process has no memory.
func (s *source) nextModulated(t float64, r *rand.Rand) float64 {
	if !s.started {
		s.started = true
		s.level = s.stationary(r)
		s.until = r.ExpFloat64() * s.stays[s.level]
	}
	for {
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
	for s.left == 0 {
		if s.level == len(s.counts) {
			return math.Inf(1)
		}
		at := s.counts[s.level]
		s.level++
		s.left, t = int(at.count), 60*float64(at.minute)
		s.until = t + 60
	}
	// The least of left uniform draws from the rest of the minute.
	t -= (s.until - t) * math.Expm1(-r.ExpFloat64()/float64(s.left))
	s.left--
	return t
}

// picker chooses among weighted functions in constant time (Walker's alias method).
type picker struct {
	first int
	slots []slot
}

// slot holds a function, its alias, and the part of the slot that is the function's.
type slot struct {
	part            float64
	function, alias int32
}

func one(function int) picker { return picker{first: function} }

func newPicker(functions []int, weights []float64) picker {
	if len(functions) == 1 {
		return one(functions[0])
	}
	n := len(functions)
	var all float64
	for _, w := range weights {
		all += w
	}
	slots := make([]slot, n)
	var small, large []int
	for i, f := range functions {
		slots[i] = slot{part: weights[i] / all * float64(n), function: int32(f), alias: int32(f)}
		if slots[i].part < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		slots[s].alias = slots[l].function
		slots[l].part -= 1 - slots[s].part
		if slots[l].part < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return picker{slots: slots}
}

func (p *picker) pick(r *rand.Rand) int {
	if len(p.slots) == 0 {
		return p.first
	}
	x := r.Float64() * float64(len(p.slots))
	i := int(x)
	if s := &p.slots[i]; x-float64(i) < s.part {
		return int(s.function)
	}
	return int(p.slots[i].alias)
}

// run draws the time of one run around its mean.
func (d Runs) run(mean time.Duration, r *rand.Rand) time.Duration {
	factor := 1.0
	switch d {
	case LogNormal:
		const sigma = 0.5
		factor = math.Exp(sigma*r.NormFloat64() - sigma*sigma/2)
	case Exponential:
		factor = r.ExpFloat64()
	case Pareto:
		// The inverse of the bounded distribution; the constants give it a mean of one.
		u := r.Float64()
		factor = paretoMin * math.Pow(1-u*(1-paretoCut), -1/paretoIndex)
	case Constant:
	}
	return max(time.Duration(float64(mean)*factor), time.Microsecond)
}

// The bounded Pareto: index, part beyond the bound of a thousand times the minimum
// (1000^-1.5), and the minimum in parts of the mean:
// (1-1000^-1.5) / (1-1000^-0.5) × (index-1)/index.
const (
	paretoIndex = 1.5
	paretoCut   = 3.1622776601683795e-05
	paretoMin   = (1 - paretoCut) / (1 - 0.03162277660168379) / 3
)
