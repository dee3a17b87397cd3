package sim

import (
	"math"
	"time"
)

// Report is what a run measured, of the calls that came after the warm-up.
type Report struct {
	Policy, Workload string
	Calls            int
	// Cold is the part of the calls that waited for a start; ColdFunctions is the
	// mean over functions of that part.
	Cold, ColdFunctions float64
	// P50, P99 and P999 are slowdowns of all calls: the time until the answer,
	// divided by the processor time of the run.
	P50, P99, P999 float64
	// Geometric is the geometric mean over functions with at least 100 calls of
	// their p99 slowdown; those with fewer count as one.
	Geometric float64
	// Mean is the mean slowdown.
	Mean float64
	// MeanResponse is the mean time until the answer.
	MeanResponse time.Duration
	// Imbalance is the mean over time of the deviation between nodes of their jobs,
	// relative to the mean.
	Imbalance float64
	// Utilization is the part of the processors that was busy, starts included.
	Utilization float64
	// Forwards, Refusals and Messages are per call; Busy counts the answers "come
	// back later" to clients, per call; Broken those that a dead node lost.
	Forwards, Refusals, Messages, Busy float64
	Broken                             int
	// Starts and Evictions are per second.
	Starts, Evictions float64
	// Memory and BusyMemory are the mean bytes that instances held, and those with
	// work.
	Memory, BusyMemory float64
	// Lost calls never got an answer within an hour.
	Lost int
}

// pooled is the number of calls from which on a function stands for itself.
const pooled = 100

// count adds to a counter while it is measured.
func (st *stats) count(s *Sim, counter *int, n int) {
	if st.in(s.now) {
		*counter += n
	}
}

// stats gathers what Report says.
type stats struct {
	from, to int64

	functions            []functionStats
	sum                  float64
	response             float64
	calls                int
	cold                 int
	forwards, refusals   int
	messages, busy       int
	broken, lost, deltas int
	starts, evictions    int

	imbalance float64
	samples   int
	cpu       float64 // busy processor time, measured
	first     bool

	held, working        int64 // bytes now
	heldSum, workSum     float64
	heldSince, workSince int64
}

type functionStats struct {
	slow  histogram
	calls int
	cold  int
}

func newStats(cfg *Config) stats {
	to := int64(cfg.Workload.Length)
	return stats{
		from: int64(float64(to) * cfg.Warmup), to: to, first: true,
		functions: make([]functionStats, len(cfg.Workload.Functions)),
	}
}

// in reports whether now is measured.
func (st *stats) in(now int64) bool { return now >= st.from && now <= st.to }

// overlap is how much of the time between two moments is measured.
func (st *stats) overlap(a, b int64) float64 {
	return float64(max(min(b, st.to)-max(a, st.from), 0))
}

func (st *stats) memory(s *Sim, change int64) {
	st.heldSum += float64(st.held) * st.overlap(st.heldSince, s.now)
	st.heldSince = s.now
	st.held += change
}

func (st *stats) busyMemory(s *Sim, change int64) {
	st.workSum += float64(st.working) * st.overlap(st.workSince, s.now)
	st.workSince = s.now
	st.working += change
}

// busyCPU is the processor time spent so far.
func busyCPU(s *Sim) (sum float64) {
	for i := range s.nodes {
		s.nodes[i].advance(s.now)
		sum += s.nodes[i].busy
	}
	return sum
}

// sample looks at the nodes once a second.
func (st *stats) sample(s *Sim) {
	if st.first {
		st.first = false
		st.cpu = -busyCPU(s)
	}
	var sum, squares, up float64
	for i := range s.nodes {
		if n := &s.nodes[i]; n.up {
			jobs := float64(len(n.jobs))
			sum, squares, up = sum+jobs, squares+jobs*jobs, up+1
		}
	}
	if sum > 0 {
		mean := sum / up
		st.imbalance += math.Sqrt(max(squares/up-mean*mean, 0)) / mean
		st.samples++
	}
}

// close ends the measured time, before what is under way is let finish.
func (st *stats) close(s *Sim) {
	if !st.first {
		st.cpu += busyCPU(s)
	}
}

// done records a finished call.
func (st *stats) done(s *Sim, c *call) {
	if c.at < st.from {
		return
	}
	slow := float64(s.now-c.at) / float64(c.work)
	f := &st.functions[c.fn]
	f.slow.add(slow)
	f.calls++
	st.calls++
	st.sum += slow
	st.response += float64(s.now - c.at)
	if c.cold {
		f.cold++
		st.cold++
	}
}

// report closes the books.
func (st *stats) report(s *Sim) *Report {
	st.memory(s, 0)
	st.busyMemory(s, 0)
	span := float64(st.to-st.from) / 1e9
	calls := float64(max(st.calls, 1))
	r := &Report{
		Policy: s.cfg.Policy.Name, Workload: s.cfg.Workload.Name, Calls: st.calls, Lost: st.lost, Broken: st.broken,
		Cold: float64(st.cold) / calls, Mean: st.sum / calls,
		MeanResponse: time.Duration(st.response / calls),
		Imbalance:    st.imbalance / float64(max(st.samples, 1)),
		Forwards:     float64(st.forwards) / calls, Refusals: float64(st.refusals) / calls,
		Messages: float64(st.messages) / calls, Busy: float64(st.busy) / calls,
		Starts: float64(st.starts) / span, Evictions: float64(st.evictions) / span,
		Memory: st.heldSum / (span * 1e9), BusyMemory: st.workSum / (span * 1e9),
	}
	r.Utilization = st.cpu / (span * 1e9 * float64(s.cfg.CPUs*len(s.nodes)))
	var all, rest histogram
	logs, functions, cold, called := 0.0, 0, 0.0, 0
	for i := range st.functions {
		f := &st.functions[i]
		if f.calls == 0 {
			continue
		}
		all.merge(&f.slow)
		cold += float64(f.cold) / float64(f.calls)
		called++
		if f.calls < pooled {
			rest.merge(&f.slow)
			continue
		}
		logs += math.Log(f.slow.quantile(0.99))
		functions++
	}
	if rest.total > 0 {
		logs += math.Log(rest.quantile(0.99))
		functions++
	}
	r.ColdFunctions = cold / float64(max(called, 1))
	r.Geometric = math.Exp(logs / float64(max(functions, 1)))
	r.P50, r.P99, r.P999 = all.quantile(0.5), all.quantile(0.99), all.quantile(0.999)
	return r
}
