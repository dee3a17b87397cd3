package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// The population of "Serverless in the Wild" (USENIX ATC 2020).
const (
	// popularPart of the functions make popularShare of the calls.
	popularPart, popularShare = 0.186, 0.996
	// Mean runs over functions are log-normal, in seconds.
	runMu, runSigma = -0.38, 2.36
	// Memory over applications is Burr XII, in MB.
	memoryC, memoryK, memoryLambda = 11.652, 0.221, 107.083
)

// What the publication leaves open, or what keeps a simulation finite.
const (
	functionsMax = 1 << 20
	runMin       = time.Millisecond
	memoryMax    = 4 << 30
	// Starts are log-normal around coldMedian, within coldMin and coldMax.
	coldMedian, coldSigma = 200 * time.Millisecond, 0.6
	coldMin, coldMax      = 50 * time.Millisecond, 2 * time.Second
)

// population returns the functions by falling popularity, and their rates in calls per
// second.
//
// Runs and memory do not come from independent draws but from a low-discrepancy
// sequence shifted by the seed, so that every prefix of the popular functions has short
// and long runs in their parts. With independent draws the run of the single most
// popular function would decide what a seed's workload is about.
func population(c Config, r *rand.Rand) ([]Function, []float64) {
	functions := make([]Function, c.Functions)
	rates := popularity(c.Functions)
	shift, turn := r.Float64(), r.Float64()
	var busy float64
	for i := range functions {
		// The plastic number's sequence, in two dimensions.
		u := fraction(shift + float64(i+1)*0.7548776662466927)
		v := fraction(turn + float64(i+1)*0.5698402909980532)
		functions[i] = Function{
			Name:        fmt.Sprintf("f%05d", i),
			Mean:        meanRun(u, c.RunMax),
			Cold:        coldStart(r.NormFloat64()),
			Memory:      memoryOf(v),
			Concurrency: c.Concurrency,
		}
		busy += rates[i] * functions[i].Mean.Seconds()
	}
	scale := c.Load * float64(c.CPUs) / busy
	for i := range rates {
		rates[i] *= scale
	}
	return functions, rates
}

// popularity returns weights of log-normal shape, falling. A log-normal spans the eight
// orders of magnitude that were published and has a share of its top that does not
// depend on how many functions there are, which a power law lacks. Its σ is solved for
// the published share; n quantiles stand for n functions.
func popularity(n int) []float64 {
	weights := make([]float64, n)
	top := max(1, int(math.Round(popularPart*float64(n))))
	fill := func(sigma float64) float64 {
		var head, all float64
		for i := range weights {
			weights[i] = math.Exp(sigma * normalQuantile(1-(float64(i)+0.5)/float64(n)))
			all += weights[i]
			if i < top {
				head += weights[i]
			}
		}
		return head / all
	}
	low, high := 0.1, 12.0
	for range 40 {
		if middle := (low + high) / 2; fill(middle) < popularShare {
			low = middle
		} else {
			high = middle
		}
	}
	fill(high)
	return weights
}

// meanRun is the u-quantile of the published mean runs, within the bounds: what lies
// beyond them is moved inside and not to the bounds, where it would pile up.
func meanRun(u float64, most time.Duration) time.Duration {
	quantile := func(at time.Duration) float64 {
		return normalCDF((math.Log(at.Seconds()) - runMu) / runSigma)
	}
	low, high := quantile(runMin), quantile(most)
	seconds := math.Exp(runMu + runSigma*normalQuantile(low+u*(high-low)))
	return time.Duration(seconds * float64(time.Second))
}

// memoryOf is the u-quantile of the published memory, in bytes.
func memoryOf(u float64) int64 {
	u = min(u, 1-1e-9)
	mb := memoryLambda * math.Pow(math.Pow(1-u, -1/memoryK)-1, 1/memoryC)
	return min(max(int64(mb*1e6), 1e6), memoryMax)
}

// coldStart is the time of a start at z standard deviations from the median.
func coldStart(z float64) time.Duration {
	return min(max(time.Duration(float64(coldMedian)*math.Exp(coldSigma*z)), coldMin), coldMax)
}

func normalQuantile(p float64) float64 { return -math.Sqrt2 * math.Erfcinv(2*p) }

func normalCDF(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

func fraction(x float64) float64 { return x - math.Floor(x) }
