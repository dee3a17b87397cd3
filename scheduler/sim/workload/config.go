package workload

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config says what a generator makes. Zero fields take the defaults.
type Config struct {
	// Name is the workload's. Default: the generator's.
	Name string
	// Seed makes workloads that differ. The same seed gives the same calls.
	Seed uint64
	// Functions is how many there are. Default 1,000; at least 10, or popularity in
	// the published shape means nothing.
	Functions int
	// Length is the time that the calls span. Default 10 minutes.
	Length time.Duration
	// CPUs and Load set the rate of calls: the runs that arrive keep Load × CPUs busy
	// on average. Defaults 8 and 0.7. Load may exceed one, for overload.
	CPUs int
	Load float64

	// Swing is the amplitude of the diurnal swing as a part of the mean rate, in
	// [0, 1). Default 0: none. The mean over Length stays what Load says.
	Swing float64
	// Day is the period of the swing. Default 24 h. Shorter days show a whole swing
	// in a short simulation.
	Day time.Duration

	// Timers is the part of the functions that are called at regular intervals, taken
	// from those called at most once a minute. Default 0.156, negative for none.
	Timers float64
	// Bursty is the part of the other functions that are called in bursts: a tenth of
	// the time at ten times the rate. Functions with more than a hundredth of the load
	// are left out, or Load would say little. Default 0.2, negative for none.
	Bursty float64

	// Runs is the distribution of the runs of one function.
	Runs Runs
	// RunMax bounds the mean run of a function. Default 60 s (96 % of the functions in
	// the publication are below it). Higher lets a few functions be most of the load.
	RunMax time.Duration
	// Concurrency is each function's. Default 1.
	Concurrency int
}

// Validate reports every field that is out of range, by its name.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Functions == 0 || c.Functions >= 10 && c.Functions <= functionsMax,
		"Functions %d: want 10 to %d", c.Functions, functionsMax)
	check(c.Length >= 0, "Length %s: want more than zero", c.Length)
	check(c.CPUs >= 0, "CPUs %d: want at least one", c.CPUs)
	check(c.Load >= 0 && c.Load <= 100, "Load %g: want more than 0, at most 100", c.Load)
	check(c.Swing >= 0 && c.Swing < 1, "Swing %g: want at least 0, less than 1", c.Swing)
	check(c.Day >= 0, "Day %s: want more than zero", c.Day)
	check(c.Timers <= 0.8, "Timers %g: want at most 0.8", c.Timers)
	check(c.Bursty <= 1, "Bursty %g: want at most 1", c.Bursty)
	check(c.Runs >= LogNormal && c.Runs <= Constant, "Runs %d: no such distribution", c.Runs)
	check(c.RunMax == 0 || c.RunMax >= 2*runMin, "RunMax %s: want at least %s", c.RunMax, 2*runMin)
	check(c.Concurrency >= 0, "Concurrency %d: want at least one", c.Concurrency)
	return errors.Join(errs...)
}

// withDefaults returns the configuration with what is zero filled in.
func (c Config) withDefaults(name string) Config {
	c.Name = cmp.Or(c.Name, name)
	c.Functions = cmp.Or(c.Functions, 1000)
	c.Length = cmp.Or(c.Length, 10*time.Minute)
	c.CPUs = cmp.Or(c.CPUs, 8)
	c.Load = cmp.Or(c.Load, 0.7)
	c.Day = cmp.Or(c.Day, 24*time.Hour)
	c.Timers = max(cmp.Or(c.Timers, 0.156), 0)
	c.Bursty = max(cmp.Or(c.Bursty, 0.2), 0)
	c.RunMax = cmp.Or(c.RunMax, time.Minute)
	c.Concurrency = cmp.Or(c.Concurrency, 1)
	return c
}
