package workload

import "time"

// Function is what a workload knows about one function.
type Function struct {
	Name string
	// Mean is the mean time of a run; Cold what a start of an instance takes.
	Mean, Cold time.Duration
	// Memory is the bytes that an instance holds.
	Memory int64
	// Concurrency is how many calls an instance runs at once, at least one.
	Concurrency int
}

// Call is one call of a function.
type Call struct {
	// At is when it arrives, since the beginning. The calls of a workload ascend in it.
	At time.Duration
	// Function is an index into the workload's functions.
	Function int
	// Run is how long it runs on a free CPU, at least a microsecond.
	Run time.Duration
}

// Workload is a set of functions and the calls to them. It is a value to share: nobody
// changes it once it is made.
type Workload struct {
	Name      string
	Functions []Function
	// Length is the time that the calls span: each arrives before it.
	Length time.Duration
	// Calls yields the calls in ascending order of At, the same ones whenever it is
	// called. It is an iter.Seq[Call] and safe for concurrent use.
	Calls func(yield func(Call) bool)
}
