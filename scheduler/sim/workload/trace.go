package workload

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// TraceConfig says what part of a trace is read. Zero fields take the defaults.
type TraceConfig struct {
	// Name is the workload's. Default: the file's.
	Name string
	// Seed chooses the sample, and what the trace does not say.
	Seed uint64
	// Sample is the part of the applications that is read, in (0, 1]; all functions of
	// an application are in or out together. Default 1.
	Sample float64
	// From and Length choose an interval of the trace; its begin becomes zero. Length's
	// default is the rest of the trace.
	From, Length time.Duration
	// FunctionsMax bounds the functions that are kept. Default 100,000. Beyond it the
	// reader fails with ErrTooLarge.
	FunctionsMax int
	// EntriesMax bounds the rest of what is kept: calls of a 2021 trace at 24 bytes
	// each, minutes with calls of a 2019 trace at 8. Default 20 million. Beyond it the
	// reader fails with ErrTooLarge.
	EntriesMax int
	// Concurrency is each function's: the traces do not have it. Default 1.
	Concurrency int
}

// check fills the defaults in and reports every field that is out of range.
func (c *TraceConfig) check(name string) error {
	c.Name = cmp.Or(c.Name, name)
	c.Sample = cmp.Or(c.Sample, 1)
	c.FunctionsMax = cmp.Or(c.FunctionsMax, 100_000)
	c.EntriesMax = cmp.Or(c.EntriesMax, 20_000_000)
	c.Concurrency = cmp.Or(c.Concurrency, 1)
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Sample > 0 && c.Sample <= 1, "Sample %g: want more than 0, at most 1", c.Sample)
	check(c.From >= 0, "From %s: want at least zero", c.From)
	check(c.Length >= 0, "Length %s: want at least zero", c.Length)
	check(c.FunctionsMax > 0, "FunctionsMax %d: want at least one", c.FunctionsMax)
	check(c.EntriesMax > 0, "EntriesMax %d: want at least one", c.EntriesMax)
	check(c.Concurrency > 0, "Concurrency %d: want at least one", c.Concurrency)
	return errors.Join(errs...)
}

// sampled says whether an application is in the sample.
func (c *TraceConfig) sampled(app string) bool {
	return c.Sample >= 1 || unit(hashOf(c.Seed, "sample", app)) < c.Sample
}

// function makes one with what the traces leave open: starts as in Azure's generator,
// memory by the published fit, by the application as it is there.
func (c *TraceConfig) function(app, name string) Function {
	u := unit(hashOf(c.Seed, "cold", app, name))
	return Function{
		Name:        short(app) + "/" + short(name),
		Cold:        coldStart(normalQuantile(min(max(u, 1e-9), 1-1e-9))),
		Memory:      memoryOf(unit(hashOf(c.Seed, "memory", app))),
		Concurrency: c.Concurrency,
	}
}

// short cuts a hash to what tells functions apart for a reader.
func short(name string) string { return name[:min(len(name), 12)] }

// tooLarge is ErrTooLarge with the bound.
func tooLarge(file, field string, bound int) error {
	return fmt.Errorf("read %s: more than %s %d: %w", file, field, bound, ErrTooLarge)
}
