package workload

import (
	"math"
	"slices"
	"testing"
	"time"
)

// collect walks a workload and checks what every workload promises.
func collect(t *testing.T, w Workload) []Call {
	t.Helper()
	var calls []Call
	for c := range w.Calls {
		if n := len(calls); n > 0 && c.At < calls[n-1].At {
			t.Fatalf("%s: call %d at %s comes after one at %s", w.Name, n, c.At, calls[n-1].At)
		}
		if c.At < 0 || c.At >= w.Length || c.Run <= 0 || c.Function < 0 || c.Function >= len(w.Functions) {
			t.Fatalf("%s: call %+v is out of range", w.Name, c)
		}
		calls = append(calls, c)
	}
	for _, f := range w.Functions {
		if f.Name == "" || f.Mean <= 0 || f.Cold <= 0 || f.Memory <= 0 || f.Concurrency < 1 {
			t.Fatalf("%s: function %+v is incomplete", w.Name, f)
		}
	}
	return calls
}

// near fails when a figure is not within a part of what it should be.
func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > within*math.Abs(want) {
		t.Errorf("%s is %g, want %g within %g %%", what, got, want, 100*within)
	}
}

// must unwraps a generator's answer.
func must(t testing.TB) func(Workload, error) Workload {
	return func(w Workload, err error) Workload {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
}

// load is the part of the CPUs that the calls keep busy.
func load(calls []Call, length time.Duration, cpus int) float64 {
	var busy time.Duration
	for _, c := range calls {
		busy += c.Run
	}
	return busy.Seconds() / length.Seconds() / float64(cpus)
}

// share is the part of the calls that the most called part of the functions makes.
func share(calls []Call, functions int, part float64) float64 {
	counts := make([]int, functions)
	for _, c := range calls {
		counts[c.Function]++
	}
	slices.SortFunc(counts, func(a, b int) int { return b - a })
	var head int
	for _, n := range counts[:int(math.Round(part*float64(functions)))] {
		head += n
	}
	return float64(head) / float64(len(calls))
}

func TestAzureHasThePublishedShape(t *testing.T) {
	t.Parallel()
	w := must(t)(Azure(Config{Seed: 1, Functions: 5000, CPUs: 500, Load: 0.7, Length: 20 * time.Minute}))
	calls := collect(t, w)
	near(t, "load", load(calls, w.Length, 500), 0.7, 0.05)
	near(t, "share of the popular", share(calls, 5000, popularPart), popularShare, 0.002)

	var runs, memory []float64
	for _, f := range w.Functions {
		runs = append(runs, f.Mean.Seconds())
		memory = append(memory, float64(f.Memory)/1e6)
	}
	slices.Sort(runs)
	slices.Sort(memory)
	// Half below 0.63 s and three quarters below 2.7 s, were it not for the cut at 60 s.
	near(t, "median run", runs[2500], 0.61, 0.1)
	near(t, "third quartile of the runs", runs[3750], 2.7, 0.15)
	near(t, "median memory in MB", memory[2500], 139.6, 0.02)
	near(t, "ninth decile of the memory in MB", memory[4500], 261.8, 0.02)
}

func TestAzureRepeatsItself(t *testing.T) {
	t.Parallel()
	c := Config{Seed: 7, Functions: 200, CPUs: 40, Swing: 0.5}
	w := must(t)(Azure(c))
	first := collect(t, w)
	if !slices.Equal(first, collect(t, w)) {
		t.Error("a second walk yields other calls")
	}
	if again := must(t)(Azure(c)); !slices.Equal(first, collect(t, again)) || !slices.Equal(w.Functions, again.Functions) {
		t.Error("the same seed makes another workload")
	}
	c.Seed = 8
	if slices.Equal(first, collect(t, must(t)(Azure(c)))) {
		t.Error("another seed makes the same workload")
	}
}

func TestAzureStopsWhenTold(t *testing.T) {
	t.Parallel()
	var n int
	must(t)(Azure(Config{CPUs: 100})).Calls(func(Call) bool { n++; return n < 10 })
	if n != 10 {
		t.Errorf("%d calls, want 10", n)
	}
}
