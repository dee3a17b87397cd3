package workload

import (
	"math"
	"math/rand/v2"
	"time"
)

// Runs is the distribution of the runs of one function around their mean.
type Runs int

const (
	// LogNormal is the default, with a σ of 0.5: the largest in a thousand runs takes
	// about four times the mean.
	LogNormal Runs = iota
	// Exponential has a coefficient of variation of one.
	Exponential
	// Pareto has the tail index 1.5, cut at a thousand times its minimum: most runs
	// are short and a few take hundreds of times the mean.
	Pareto
	// Constant makes each run take the mean.
	Constant
)

// run draws the time of one run around its mean, given in nanoseconds.
func (d Runs) run(mean float64, r *rand.Rand) time.Duration {
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
	return max(time.Duration(mean*factor), time.Microsecond)
}

// The bounded Pareto: index, part beyond the bound of a thousand times the minimum
// (1000^-1.5), and the minimum in parts of the mean:
// (1-1000^-1.5) / (1-1000^-0.5) × (index-1)/index.
const (
	paretoIndex = 1.5
	paretoCut   = 3.1622776601683795e-05
	paretoMin   = (1 - paretoCut) / (1 - 0.03162277660168379) / 3
)
