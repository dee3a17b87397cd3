package workload

import (
	"math"
	"math/rand/v2"
	"time"
)

// stream is what a generator prepares once, and walks whenever the calls are asked for.
type stream struct {
	seed      uint64
	functions []Function
	// means are the functions' mean runs in nanoseconds, close together for the caches.
	means   []float64
	sources []source
	length  float64
	runs    Runs
	// spread replaces runs, by function, where a trace says how they spread.
	spread []spread
	swing  swing
}

// swing is a sine around one, divided by its mean over the workload.
type swing struct{ amplitude, day, mean float64 }

func newSwing(amplitude float64, day, length time.Duration) swing {
	d, l := day.Seconds(), length.Seconds()
	mean := 1 + amplitude*d/(2*math.Pi*l)*(1-math.Cos(2*math.Pi*l/d))
	return swing{amplitude: amplitude, day: d, mean: mean}
}

// keep says whether the candidate at t stays. Candidates come at peak times the rate.
func (s *swing) keep(t float64, r *rand.Rand) bool {
	if s.amplitude == 0 {
		return true
	}
	return r.Float64()*(1+s.amplitude) < 1+s.amplitude*math.Sin(2*math.Pi*t/s.day)
}

// peak is the greatest factor on the rate.
func (s *swing) peak() float64 { return (1 + s.amplitude) / s.mean }

// event is the next arrival of a source.
type event struct {
	at     float64
	source int32
}

// calls walks the stream. Arrivals and runs draw from different generators, so that
// workloads which differ only in their runs have the same arrivals.
func (st *stream) calls(yield func(Call) bool) {
	arrivals := rand.New(rand.NewPCG(st.seed, 0xa221))
	runs := rand.New(rand.NewPCG(st.seed, 0x2045))
	sources := append([]source(nil), st.sources...)
	heap := make([]event, 0, len(sources))
	for i := range sources {
		if at := sources[i].next(0, st.length, arrivals); at < st.length {
			heap = append(heap, event{at, int32(i)})
		}
	}
	for i := len(heap)/4 + 1; i >= 0; i-- {
		down(heap, i)
	}
	for len(heap) > 0 {
		e := heap[0]
		s := &sources[e.source]
		if !s.swings || st.swing.keep(e.at, arrivals) {
			f := s.pick.pick(arrivals)
			at := time.Duration(e.at * float64(time.Second))
			if !yield(Call{At: at, Function: f, Run: st.run(f, runs)}) {
				return
			}
		}
		if at := s.next(e.at, st.length, arrivals); at < st.length {
			heap[0].at = at
		} else {
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		}
		down(heap, 0)
	}
}

// run draws the time of one run.
func (st *stream) run(function int, r *rand.Rand) time.Duration {
	if st.spread != nil {
		return st.spread[function].run(r)
	}
	return st.runs.run(st.means[function], r)
}

// down restores the order of a heap with four children per node, which is shallower
// and kinder to caches than one with two. Ties go to the lower source: no chance.
func down(heap []event, i int) {
	if i >= len(heap) {
		return
	}
	e := heap[i]
	for {
		least, best := i, e
		for child := 4*i + 1; child <= 4*i+4 && child < len(heap); child++ {
			c := heap[child]
			if c.at < best.at || c.at == best.at && c.source < best.source {
				least, best = child, c
			}
		}
		if least == i {
			break
		}
		heap[i] = best
		i = least
	}
	heap[i] = e
}

// workload finishes the stream.
func (st *stream) workload(name string, length time.Duration) Workload {
	st.means = make([]float64, len(st.functions))
	for i, f := range st.functions {
		st.means[i] = float64(f.Mean)
	}
	return Workload{Name: name, Functions: st.functions, Length: length, Calls: st.calls}
}
