package sweep

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/covey-dev/covey/scheduler/sim/workload"
)

// shape is a workload in the shape of the published traces: 18.6 % of the
// functions make 99.6 % of the calls, and durations are log-normal between and
// within functions.
type shape struct {
	functions int
	// load is how many processors the runs keep busy on average.
	load   float64
	length time.Duration
	seed   uint64
	// median and spread are those of the functions' mean run times.
	median time.Duration
	spread float64
	// even makes all functions as popular as each other, for an unseen generator.
	even bool
	// burst makes arrivals come in groups of so many on average, 1 for none.
	burst float64
}

func (sh shape) build(name string) workload.Workload {
	r := rand.New(rand.NewPCG(sh.seed, 0x5eed))
	w := workload.Workload{Name: name, Length: sh.length}
	weights := make([]float64, sh.functions)
	popular := max(int(0.186*float64(sh.functions)), 1)
	perCall := 0.0
	var head, tail float64
	for i := range weights {
		weights[i] = 1
		if !sh.even {
			weights[i] = math.Pow(float64(i%popular+1), -0.9)
		}
		if i < popular {
			head += weights[i]
		} else {
			tail += weights[i]
		}
	}
	for i := range weights {
		switch {
		case sh.even:
			weights[i] /= head + tail
		case i < popular:
			weights[i] *= 0.996 / head
		default:
			weights[i] *= 0.004 / tail
		}
		mean := time.Duration(float64(sh.median) * math.Exp(sh.spread*r.NormFloat64()))
		cold := time.Duration(float64(80*time.Millisecond) * math.Exp(0.8*r.NormFloat64()))
		f := workload.Function{
			Name: fmt.Sprintf("f%d", i), Mean: min(max(mean, time.Millisecond), 10*time.Second),
			Cold: min(max(cold, 2*time.Millisecond), 2*time.Second), Memory: int64(64+64*r.IntN(4)) << 20, Concurrency: 1,
		}
		w.Functions = append(w.Functions, f)
		perCall += weights[i] * f.Mean.Seconds()
	}
	cumulated := slices.Clone(weights)
	for i := 1; i < len(cumulated); i++ {
		cumulated[i] += cumulated[i-1]
	}
	gap := perCall / sh.load * max(sh.burst, 1) // seconds between groups
	w.Calls = func(yield func(workload.Call) bool) {
		r := rand.New(rand.NewPCG(sh.seed, 0xca11))
		for at := 0.0; ; {
			at += r.ExpFloat64() * gap
			t := time.Duration(at * 1e9)
			if t >= sh.length {
				return
			}
			i, _ := slices.BinarySearch(cumulated, r.Float64())
			i = min(i, len(cumulated)-1)
			group := 1
			for sh.burst > 1 && r.Float64() < 1-1/sh.burst {
				group++
			}
			for range group {
				const sigma = 0.6
				run := float64(w.Functions[i].Mean) * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2)
				if !yield(workload.Call{At: t, Function: i, Run: time.Duration(run)}) {
					return
				}
			}
		}
	}
	return w
}
