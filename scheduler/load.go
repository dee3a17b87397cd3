package scheduler

import "time"

// Load is what one node knows exactly about one version on itself. It travels
// back with each reply.
type Load struct {
	// InFlight calls run, Queued calls wait.
	InFlight, Queued int
	// Free is the number of warm slots that could take a call at once.
	Free int
	// Instances are ready, Starting are not yet.
	Instances, Starting int
	// Busy is how many calls and starts of all versions want the node's processors;
	// zero also stands for "not told", and then only the version's own load counts.
	Busy int
	// Full says that the next call would be refused.
	Full bool
	// Idle is the number of idle tokens that come with this load: slots that the
	// node offers to the receiver of the load and to nobody else for the moment.
	Idle int
}

// ShouldTake reports whether a node that was sent a call keeps it: its processors
// and its instances have room, or it has no instance, which the sender will have
// known, or the sender's decision says that it must. A refusal costs the call
// a round trip, and tells the sender what is going on here.
func ShouldTake(l Load, cpus int, must bool) bool {
	return must || (l.Busy < max(cpus, 1) && (l.Free > 0 || l.Instances == 0))
}

// Outcome is what a call taught.
type Outcome struct {
	// Load of the node that answered, nil when it did not.
	Load *Load
	// Took is the time the function ran; zero when it did not.
	Took time.Duration
	// Cold is what the start cost, zero for a warm call.
	Cold time.Duration
	// Refused says that the call did not start there.
	Refused bool
}

// ScaleInput is what a node knows when a call finds no free slot.
type ScaleInput struct {
	// Queued calls wait, that one included; InFlight calls run.
	Queued, InFlight int
	// Instances are ready, Starting are not yet; each runs Concurrency calls.
	Instances, Starting, Concurrency int
	// Max instances may exist here by this node's share; 0 means no limit but
	// memory, which is the executor's to know.
	Max int
	// Service is the mean run time of the version, zero when unknown.
	Service time.Duration
	// Cold is the expected cost of a start, zero when unknown.
	Cold time.Duration
}

// ShouldStart reports whether another instance is worth its start: the last
// waiting call would be served later without it than a start takes. Starting
// instances count as capacity, so that a burst starts what it needs and no
// more. It is a pure function.
func ShouldStart(in ScaleInput) bool {
	concurrency := max(in.Concurrency, 1)
	if in.Queued <= 0 || (in.Max > 0 && in.Instances+in.Starting >= in.Max) {
		return false
	}
	uncovered := in.Queued - in.Starting*concurrency
	if uncovered <= 0 {
		return false // each waiting call has a starting slot coming
	}
	slots := in.Instances * concurrency
	if slots == 0 {
		return true
	}
	if in.Service == 0 {
		return true // nothing has finished yet: waiting has no known end
	}
	// Running calls are on average half done. The calls before the last waiting one
	// leave at the rate of the slots.
	wait := in.Service/2 + in.Service*time.Duration(uncovered-1)/time.Duration(slots)
	return wait > in.Cold
}
