package workload

import (
	"cmp"
	"fmt"
	"math"
)

// HeavyTail is Azure with Pareto runs: the same functions and arrivals for the same
// configuration, but a few runs take hundreds of times the mean of their function.
func HeavyTail(c Config) (Workload, error) {
	c.Name, c.Runs = cmp.Or(c.Name, "heavy tail"), Pareto
	return Azure(c)
}

// Markov makes functions in sixteen tenants, each with a Markov chain of its own that
// lifts and lowers the rates of all its functions together: 0.2, 1 and 4.2 times the
// mean, for a minute, half a minute and a quarter of one on average. Arrivals are
// correlated between functions, which neither Azure nor its bursts have. Functions with
// more than a hundredth of the load stay Poisson, for the reason that they have no bursts.
//
// Timers and Bursty of the configuration have no effect.
func Markov(c Config) (Workload, error) {
	if err := c.Validate(); err != nil {
		return Workload{}, fmt.Errorf("markov workload: %w", err)
	}
	c = c.withDefaults("markov")
	st, rates, _ := prepare(c)
	const tenants = 16
	// Their mean over time is one.
	levels, stays := []float64{0.2, 1, 4.2}, []float64{60, 30, 15}
	members := make([][]int, tenants)
	var large []int
	for i, rate := range rates {
		if !st.mayBurst(i, rate, c) {
			large = append(large, i)
			continue
		}
		// By turns, so that no tenant has only popular functions.
		members[i%tenants] = append(members[i%tenants], i)
	}
	st.pool(large, rates, nil, nil)
	for _, m := range members {
		st.pool(m, rates, levels, stays)
	}
	return st.workload(c.Name, c.Length), nil
}

// Cron makes half of the less popular functions timers that all tick at the same
// instants: every minute, five minutes, or quarter of an hour, on the clock. It is
// what schedules look like that people write.
//
// Timers of the configuration is the part of them, by default a half; Bursty has its
// meaning for the others.
func Cron(c Config) (Workload, error) {
	c.Timers = cmp.Or(c.Timers, 0.5)
	if err := c.Validate(); err != nil {
		return Workload{}, fmt.Errorf("cron workload: %w", err)
	}
	c = c.withDefaults("cron")
	st, rates, r := prepare(c)
	chance := timerChance(c.Timers, rates)
	var rest []int
	var busy, was float64
	for i, rate := range rates {
		was += rate * st.functions[i].Mean.Seconds()
		if rate > 1.0/60 || r.Float64() >= chance {
			rest = append(rest, i)
			continue
		}
		period := []float64{60, 300, 900}[r.IntN(3)]
		busy += st.functions[i].Mean.Seconds() / period
		st.sources = append(st.sources, source{period: period, first: period, pick: one(i)})
	}
	// What the timers take is not left to the others: the load is what it should be.
	// Where timers alone exceed it, the others keep a tenth of it.
	var others float64
	for _, i := range rest {
		others += rates[i] * st.functions[i].Mean.Seconds()
	}
	scale := math.Max(was-busy, was/10) / others
	var poisson []int
	for _, i := range rest {
		rates[i] *= scale
		if r.Float64() < c.Bursty && st.mayBurst(i, rates[i], c) {
			st.sources = append(st.sources, st.bursts(i, rates[i]))
		} else {
			poisson = append(poisson, i)
		}
	}
	st.pool(poisson, rates, nil, nil)
	return st.workload(c.Name, c.Length), nil
}
