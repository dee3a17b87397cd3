package workload

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// ReadAzure2021 reads the Azure Functions invocation trace of 2021
// (AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt): one row per call with app,
// func, end_timestamp and duration in seconds. Its rows are in no exact order of the
// starts; the calls are sorted by them. The trace is 1,980,951 calls, 50 MB here.
//
// A call that began before the trace, or before From, is left out, as are rows without
// a time. A negative time and any other damage is a *LineError.
func ReadAzure2021(f File, c TraceConfig) (Workload, error) {
	if err := c.check(f.Name); err != nil {
		return Workload{}, fmt.Errorf("azure 2021 trace: %w", err)
	}
	t, err := newTable(f, "app", "func", "end_timestamp", "duration")
	if err != nil {
		return Workload{}, err
	}
	r := reader2021{table: t, config: c, index: map[[2]string]int{}}
	for {
		ok, err := t.row()
		if err != nil {
			return Workload{}, err
		}
		if !ok {
			break
		}
		if err := r.take(); err != nil {
			return Workload{}, err
		}
	}
	return r.workload(), nil
}

// reader2021 is a trace of 2021 half read.
type reader2021 struct {
	table  *table
	config TraceConfig

	index     map[[2]string]int
	functions []Function
	sums      []runSum
	calls     []Call
}

// runSum is for a mean.
type runSum struct {
	runs float64
	n    int
}

// take reads the current row.
func (r *reader2021) take() error {
	t := r.table
	app, err := t.text("app")
	if err != nil {
		return err
	}
	name, err := t.text("func")
	if err != nil {
		return err
	}
	end, err := t.number("end_timestamp")
	if err != nil {
		return err
	}
	run, err := t.number("duration")
	if err != nil {
		return err
	}
	const most = float64(math.MaxInt64 / 4)
	if end < 0 || run < 0 || end*1e9 > most || run*1e9 > most {
		return t.errorf("end_timestamp %g, duration %g: out of range", end, run)
	}
	if math.IsNaN(end) || math.IsNaN(run) || !r.config.sampled(app) {
		return nil
	}
	at := time.Duration((end-run)*1e9) - r.config.From
	if end < run || at < 0 || r.config.Length > 0 && at >= r.config.Length {
		return nil
	}
	return r.add(app, name, at, max(time.Duration(run*1e9), time.Microsecond))
}

// add keeps a call.
func (r *reader2021) add(app, name string, at, run time.Duration) error {
	i, ok := r.index[[2]string{app, name}]
	if !ok {
		if i = len(r.functions); i == r.config.FunctionsMax {
			return tooLarge(r.table.name, "FunctionsMax", r.config.FunctionsMax)
		}
		r.index[[2]string{app, name}] = i
		r.functions = append(r.functions, r.config.function(app, name))
		r.sums = append(r.sums, runSum{})
	}
	if len(r.calls) == r.config.EntriesMax {
		return tooLarge(r.table.name, "EntriesMax", r.config.EntriesMax)
	}
	r.sums[i].runs += float64(run)
	r.sums[i].n++
	r.calls = append(r.calls, Call{At: at, Function: i, Run: run})
	return nil
}

// workload finishes the trace.
func (r *reader2021) workload() Workload {
	for i, s := range r.sums {
		r.functions[i].Mean = max(time.Duration(s.runs/float64(s.n)), time.Microsecond)
	}
	// Stable, so that calls at one instant keep the order of the file.
	slices.SortStableFunc(r.calls, func(a, b Call) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
	length := r.config.Length
	if n := len(r.calls); length == 0 && n > 0 {
		length = r.calls[n-1].At + 1
	}
	calls := r.calls
	return Workload{
		Name: r.config.Name, Functions: r.functions, Length: length,
		Calls: func(yield func(Call) bool) {
			for _, c := range calls {
				if !yield(c) {
					return
				}
			}
		},
	}
}
