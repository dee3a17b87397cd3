package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// SpikeConfig is one function whose rate leaps. Zero fields take the defaults.
type SpikeConfig struct {
	// Seed makes spikes that differ.
	Seed uint64
	// Length is the time that the calls span. Default 10 minutes.
	Length time.Duration
	// Rate is calls per second outside the spike. Default 5.
	Rate float64
	// Factor multiplies the rate during the spike. Default 100.
	Factor float64
	// At is when the rate begins to rise; it is at its top a second later. Default: a
	// third of Length.
	At time.Duration
	// For is how long the top lasts; the rate then falls within a second. Default 1 minute.
	For time.Duration
	// Function is what is called. Its zero fields become: a run of 100 ms, a start of
	// 250 ms, 128 MB, one call at once.
	Function Function
	// Runs is the distribution of the runs.
	Runs Runs
}

// Spike makes the calls of one function whose rate leaps by a factor of a hundred
// within one second. Merge it with a background.
func Spike(c SpikeConfig) (Workload, error) {
	c.Length = cmp.Or(c.Length, 10*time.Minute)
	c.Rate, c.Factor = cmp.Or(c.Rate, 5), cmp.Or(c.Factor, 100)
	c.At, c.For = cmp.Or(c.At, c.Length/3), cmp.Or(c.For, time.Minute)
	if c.Length < 0 || c.At < 0 || c.For < 0 || !(c.Rate > 0) || !(c.Factor >= 1) {
		return Workload{}, fmt.Errorf("spike workload: Length %s, At %s, For %s, Rate %g: want more than zero; Factor %g: want at least 1",
			c.Length, c.At, c.For, c.Rate, c.Factor)
	}
	if math.IsInf(c.Rate*c.Factor, 1) {
		return Workload{}, fmt.Errorf("spike workload: Rate %g × Factor %g: too large", c.Rate, c.Factor)
	}
	st := &stream{
		seed: c.Seed, functions: []Function{complete(c.Function, "spike")}, length: c.Length.Seconds(), runs: c.Runs,
		sources: []source{{rate: c.Rate, leap: &leap{
			at: c.At.Seconds(), until: (c.At + c.For).Seconds() + 1, factor: c.Factor,
		}, pick: one(0)}},
	}
	return st.workload("spike", c.Length), nil
}

// leap is the factor on a rate over time: one, a rise within a second, the factor, and
// a fall within a second.
type leap struct{ at, until, factor float64 }

// of is the factor at time t.
func (l *leap) of(t float64) float64 {
	part := min(max(min(t-l.at, l.until+1-t), 0), 1)
	return 1 + part*(l.factor-1)
}

// next draws at the top rate inside the leap and keeps the part that is due; outside it
// draws at the base rate, not to throw away most of what it draws.
func (l *leap) next(t, rate float64, r *rand.Rand) float64 {
	for {
		switch {
		case t < l.at:
			if at := t + r.ExpFloat64()/rate; at < l.at {
				return at
			}
			t = l.at
		case t < l.until+1:
			t += r.ExpFloat64() / (rate * l.factor)
			if t < l.until+1 && r.Float64()*l.factor < l.of(t) {
				return t
			}
			t = min(t, l.until+1)
		default:
			return t + r.ExpFloat64()/rate
		}
	}
}

// CrowdConfig is a flash crowd of cold functions. Zero fields take the defaults.
type CrowdConfig struct {
	// Seed makes crowds that differ.
	Seed uint64
	// Functions is how many come at once. Default 1,000.
	Functions int
	// Length is the time that the calls span. Default 10 minutes.
	Length time.Duration
	// At is when each function has its first call. Default: a third of Length.
	At time.Duration
	// Within spreads the first calls evenly at random. Default 0: all at one instant.
	Within time.Duration
	// Rate is the calls per second of each function afterwards. Default 0: none.
	Rate float64
}

// FlashCrowd makes the calls of many functions that nobody has called before and that
// are all called at once. Runs are of 10 ms to 1 s, memory and starts as in Azure.
// Merge it with a background.
func FlashCrowd(c CrowdConfig) (Workload, error) {
	c.Functions = cmp.Or(c.Functions, 1000)
	c.Length = cmp.Or(c.Length, 10*time.Minute)
	c.At = cmp.Or(c.At, c.Length/3)
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Functions > 0 && c.Functions <= functionsMax, "Functions %d: want 1 to %d", c.Functions, functionsMax)
	check(c.Length > 0 && c.At >= 0 && c.Within >= 0 && c.At < c.Length && c.Within < c.Length-c.At,
		"At %s, Within %s: want them inside Length %s", c.At, c.Within, c.Length)
	check(c.Rate >= 0 && !math.IsInf(c.Rate, 1), "Rate %g: want at least zero", c.Rate)
	if err := errors.Join(errs...); err != nil {
		return Workload{}, fmt.Errorf("flash crowd workload: %w", err)
	}
	r := rand.New(rand.NewPCG(c.Seed, 0xc204d))
	st := &stream{seed: c.Seed, length: c.Length.Seconds()}
	for i := range c.Functions {
		st.functions = append(st.functions, Function{
			Name:        fmt.Sprintf("crowd%05d", i),
			Mean:        time.Duration(float64(10*time.Millisecond) * math.Pow(100, r.Float64())),
			Cold:        coldStart(r.NormFloat64()),
			Memory:      memoryOf(r.Float64()),
			Concurrency: 1,
		})
		first := c.At.Seconds() + r.Float64()*c.Within.Seconds()
		st.sources = append(st.sources, source{first: first, rate: c.Rate, pick: one(i)})
	}
	return st.workload("flash crowd", c.Length), nil
}

// complete fills in what a function leaves open.
func complete(f Function, name string) Function {
	f.Name = cmp.Or(f.Name, name)
	f.Mean, f.Cold = cmp.Or(f.Mean, 100*time.Millisecond), cmp.Or(f.Cold, 250*time.Millisecond)
	f.Memory, f.Concurrency = cmp.Or(f.Memory, 128_000_000), cmp.Or(f.Concurrency, 1)
	return f
}
