// Package loadgen sends HTTP requests as fast as a number of callers can, and
// says how long they took and what the sending itself cost.
//
// It is one generator for all rows of the benchmark table: a hand-written
// HTTP/1.1 loop over kept-alive connections, one per caller, each with one
// request open at a time (a closed loop). Every answer is read whole and
// checked. A closed loop hides queueing that open arrivals would meet, so its
// latencies are lower bounds; ratios between rows of one run are what it is for.
package loadgen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Load says what to send.
type Load struct {
	// Addr is the server's host:port; loopback in every benchmark of ours.
	Addr string
	// Method and Path make the request line. Default POST /.
	Method, Path string
	// Header holds further header lines, each "Name: value" without line ends.
	Header []string
	// Body is sent with every request.
	Body []byte
	// WantBody is the length that each answer must have; negative means any.
	WantBody int
	// Callers is the number of connections. At least 1.
	Callers int
	// Duration and Calls bound the run, whichever is reached first; a zero
	// Calls means Duration alone. Duration must be positive.
	Duration time.Duration
	Calls    int
}

// Result is what a run measured.
type Result struct {
	// Calls were answered 200 with the wanted length; Errors were not.
	Calls, Errors int
	// FirstError is one of the errors, to say what went wrong.
	FirstError error
	Elapsed    time.Duration
	// P50 and P99 are percentiles of the answered calls' times.
	P50, P99 time.Duration
	// CPU is what this process used during the run, all threads.
	CPU time.Duration
}

// PerSecond is the rate of answered calls.
func (r Result) PerSecond() float64 { return float64(r.Calls) / r.Elapsed.Seconds() }

// CPUPerCall is the generator's own cost of one answered call.
func (r Result) CPUPerCall() time.Duration {
	if r.Calls == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Calls)
}

func (l *Load) validate() error {
	var errs []error
	if l.Addr == "" {
		errs = append(errs, errors.New("load without Addr"))
	}
	if l.Callers < 1 {
		errs = append(errs, errors.New("load without Callers"))
	}
	if l.Duration <= 0 {
		errs = append(errs, errors.New("load without Duration: every run is bounded"))
	}
	return errors.Join(errs...)
}

// Run sends until the load's bounds are reached or ctx ends. The error is for a
// load that could not be run at all; failed calls are counted in the result.
func Run(ctx context.Context, l Load) (Result, error) {
	if err := l.validate(); err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.Duration)
	defer cancel()
	conns := make([]*caller, l.Callers)
	for i := range conns {
		c, err := dial(ctx, &l)
		if err != nil {
			for _, open := range conns[:i] {
				open.close()
			}
			return Result{}, fmt.Errorf("connect caller %d: %w", i, err)
		}
		conns[i] = c
	}
	cpu, start := selfCPU(), time.Now()
	var wg sync.WaitGroup
	for i, c := range conns {
		share := 0
		if l.Calls > 0 {
			share = l.Calls / l.Callers
			if i < l.Calls%l.Callers {
				share++
			}
			if share == 0 {
				continue
			}
		}
		wg.Go(func() { c.run(ctx, share) })
	}
	wg.Wait()
	r := Result{Elapsed: time.Since(start), CPU: selfCPU() - cpu}
	collect(&r, conns)
	return r, nil
}

// collect adds up what the callers saw.
func collect(r *Result, conns []*caller) {
	var took []time.Duration
	for _, c := range conns {
		c.close()
		r.Errors += c.errors
		if r.FirstError == nil {
			r.FirstError = c.first
		}
		took = append(took, c.took...)
	}
	r.Calls = len(took)
	slices.Sort(took)
	r.P50, r.P99 = Percentile(took, 0.50), Percentile(took, 0.99)
}

// Percentile returns the value below which the share p of sorted lies, by the
// nearest-rank method; zero for no values.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	at := int(p*float64(len(sorted)) + 0.5)
	return sorted[min(max(at-1, 0), len(sorted)-1)]
}

// selfCPU is the processor time of this process so far.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Measure runs call from so many goroutines, one after the other in each, for
// the given time. It is Run for calls that are not HTTP.
func Measure(ctx context.Context, callers int, duration time.Duration, call func() error) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	each := make([]Result, callers)
	took := make([][]time.Duration, callers)
	cpu, start := selfCPU(), time.Now()
	deadline := start.Add(duration)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for now := time.Now(); ctx.Err() == nil && now.Before(deadline); now = time.Now() {
				if err := call(); err != nil {
					each[i].Errors++
					each[i].FirstError = err
					continue
				}
				took[i] = append(took[i], time.Since(now))
			}
		})
	}
	wg.Wait()
	r := Result{Elapsed: time.Since(start), CPU: selfCPU() - cpu}
	for i := range each {
		r.Errors += each[i].Errors
		if r.FirstError == nil {
			r.FirstError = each[i].FirstError
		}
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	r.Calls, r.P50, r.P99 = len(all), Percentile(all, 0.50), Percentile(all, 0.99)
	return r, nil
}
