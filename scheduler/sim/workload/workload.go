// Package workload makes the calls that a simulation is driven by.
package workload

import "time"

// Function is what a workload knows about one function.
type Function struct {
	Name string
	// Mean is the mean time of a run, Cold the processor time of a start.
	Mean, Cold time.Duration
	// Memory is the bytes that an instance holds.
	Memory int64
	// Concurrency is how many calls an instance runs at once.
	Concurrency int
}

// Call is one call.
type Call struct {
	// At is when it comes, since the beginning.
	At time.Duration
	// Function is an index into the workload's functions.
	Function int
	// Run is the processor time that the call needs.
	Run time.Duration
}

// Workload is a set of functions and the calls to them.
type Workload struct {
	Name      string
	Functions []Function
	Length    time.Duration
	// Calls yields the calls in the order of their times, the same ones whenever it
	// is called.
	Calls func(yield func(Call) bool)
}
