package workload

import (
	"fmt"
	"math/rand/v2"
)

// Azure makes a workload in the shape of the published Azure Functions traces:
// popularity so skewed that 18.6 % of the functions make 99.6 % of the calls,
// log-normal runs, memory by the published Burr fit, and timers and bursts beside
// Poisson arrivals. The rates are scaled to the configured load.
func Azure(c Config) (Workload, error) {
	if err := c.Validate(); err != nil {
		return Workload{}, fmt.Errorf("azure workload: %w", err)
	}
	c = c.withDefaults("azure")
	st, rates, r := prepare(c)
	chance := timerChance(c.Timers, rates)
	var rest []int
	for i, rate := range rates {
		switch {
		case rate <= 1.0/60 && r.Float64() < chance:
			st.sources = append(st.sources, source{period: 1 / rate, first: (1 - r.Float64()) / rate, pick: one(i)})
		case r.Float64() < c.Bursty && st.mayBurst(i, rate, c):
			st.sources = append(st.sources, st.bursts(i, rate))
		default:
			rest = append(rest, i)
		}
	}
	st.pool(rest, rates, nil, nil)
	return st.workload(c.Name, c.Length), nil
}

// prepare makes the population and a stream without sources.
func prepare(c Config) (*stream, []float64, *rand.Rand) {
	r := rand.New(rand.NewPCG(c.Seed, 0x909))
	functions, rates := population(c, r)
	st := &stream{
		seed: c.Seed, functions: functions, length: c.Length.Seconds(), runs: c.Runs,
		swing: newSwing(c.Swing, c.Day, c.Length),
	}
	return st, rates, r
}

// timerChance is the chance of a rarely called function to be a timer that makes the
// timers the wanted part of all functions.
func timerChance(part float64, rates []float64) float64 {
	var rare int
	for _, rate := range rates {
		if rate <= 1.0/60 {
			rare++
		}
	}
	return min(1, part*float64(len(rates))/float64(max(rare, 1)))
}

// burstShare bounds the part of the load that a function with bursts may have. A burst
// of a function with a fifth of all runs would be three times the load for ten seconds,
// and the workload no longer one of the load that it says.
const burstShare = 0.01

// mayBurst says whether a function is small enough for bursts.
func (st *stream) mayBurst(function int, rate float64, c Config) bool {
	return rate*st.functions[function].Mean.Seconds() <= burstShare*c.Load*float64(c.CPUs)
}

// bursts is the source of a function that is silent for 90 s and then called at ten
// times its rate for 10 s, on average.
func (st *stream) bursts(function int, rate float64) source {
	return source{
		rate: rate * st.swing.peak(), swings: true, pick: one(function),
		levels: []float64{0, 10}, stays: []float64{90, 10},
	}
}

// pool adds one source for many functions that differ in nothing but their rate: one
// process for all of them is the same as one for each, and much faster to draw.
func (st *stream) pool(functions []int, rates []float64, levels, stays []float64) {
	if len(functions) == 0 {
		return
	}
	var all float64
	weights := make([]float64, len(functions))
	for i, f := range functions {
		weights[i] = rates[f]
		all += rates[f]
	}
	st.sources = append(st.sources, source{
		rate: all * st.swing.peak(), swings: true, levels: levels, stays: stays,
		pick: newPicker(functions, weights),
	})
}
