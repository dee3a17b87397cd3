package workload

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// between counts the calls in an interval.
func between(calls []Call, from, to time.Duration) float64 {
	var n float64
	for _, c := range calls {
		if c.At >= from && c.At < to {
			n++
		}
	}
	return n
}

// dispersion is the variance of the calls per interval over their mean: one for Poisson
// arrivals, more for bursts, none for a timer.
func dispersion(calls []Call, length, interval time.Duration) float64 {
	counts := make([]float64, length/interval)
	for _, c := range calls {
		if i := int(c.At / interval); i < len(counts) {
			counts[i]++
		}
	}
	mean := float64(len(calls)) / float64(len(counts))
	var sum float64
	for _, n := range counts {
		sum += (n - mean) * (n - mean)
	}
	return sum / float64(len(counts)) / mean
}

func TestSpikeLeapsWithinASecond(t *testing.T) {
	t.Parallel()
	w := must(t)(Spike(SpikeConfig{Seed: 1, Rate: 20, At: 200 * time.Second, For: 50 * time.Second}))
	calls := collect(t, w)
	near(t, "calls before", between(calls, 0, 200*time.Second), 4000, 0.05)
	near(t, "calls in the second of the rise", between(calls, 200*time.Second, 201*time.Second), 1010, 0.1)
	near(t, "calls at the top", between(calls, 201*time.Second, 251*time.Second), 100_000, 0.02)
	near(t, "calls after", between(calls, 252*time.Second, w.Length), 348*20, 0.05)
	var run float64
	for _, c := range calls {
		run += c.Run.Seconds()
	}
	near(t, "mean run", run/float64(len(calls)), 0.1, 0.02)
}

func TestFlashCrowdCallsEveryFunctionAtOnce(t *testing.T) {
	t.Parallel()
	w := must(t)(FlashCrowd(CrowdConfig{Seed: 1}))
	calls := collect(t, w)
	seen := map[int]bool{}
	for _, c := range calls {
		seen[c.Function] = true
		if c.At != 200*time.Second {
			t.Fatalf("a call at %s, want all at 3m20s", c.At)
		}
	}
	if len(calls) != 1000 || len(seen) != 1000 {
		t.Errorf("%d calls of %d functions, want 1000 of 1000", len(calls), len(seen))
	}
	calls = collect(t, must(t)(FlashCrowd(CrowdConfig{Seed: 1, Within: time.Second, Rate: 0.5})))
	near(t, "calls with a rate", float64(len(calls)), 1000+1000*0.5*400, 0.02)
	if calls[0].At < 200*time.Second || calls[999].At > 202*time.Second {
		t.Errorf("first calls from %s to %s", calls[0].At, calls[999].At)
	}
}

func TestEveryGeneratorOffersItsLoad(t *testing.T) {
	t.Parallel()
	c := Config{Seed: 3, Functions: 2000, CPUs: 500, Load: 0.6, Length: 30 * time.Minute}
	swing := c
	swing.Name, swing.Swing, swing.Day = "swing", 0.8, 45*time.Minute
	constant := c
	constant.Name, constant.Runs = "constant", Constant
	exponential := c
	exponential.Name, exponential.Runs = "exponential", Exponential
	for _, w := range []Workload{
		must(t)(Azure(c)), must(t)(HeavyTail(c)), must(t)(Markov(c)), must(t)(Cron(c)),
		must(t)(Azure(swing)), must(t)(Azure(constant)), must(t)(Azure(exponential)),
	} {
		t.Run(w.Name, func(t *testing.T) {
			t.Parallel()
			near(t, "load", load(collect(t, w), w.Length, c.CPUs), c.Load, 0.1)
		})
	}
}

func TestLoadIsSteadyInSpiteOfBursts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		generate := []func(Config) (Workload, error){Azure, Markov}[seed%2]
		c := Config{Seed: seed, CPUs: 400, Length: 20 * time.Minute, Functions: 1000}
		var most float64
		busy := make([]float64, 40)
		for _, call := range collect(t, must(t)(generate(c))) {
			busy[call.At/(30*time.Second)] += call.Run.Seconds() / 30 / 400
		}
		for _, b := range busy {
			most = max(most, b)
		}
		if most > 0.95 {
			t.Errorf("with seed %d the load of half a minute is %g, want it near 0.7", seed, most)
		}
	}
}

func TestSwingIsASine(t *testing.T) {
	t.Parallel()
	w := must(t)(Azure(Config{Seed: 1, CPUs: 1000, Swing: 0.5, Day: 10 * time.Minute, Bursty: -1}))
	calls := collect(t, w)
	minute := float64(len(calls)) / 10
	// The mean of a sine over the fifth of its period around the top is 0.935.
	near(t, "calls at the top", between(calls, 90*time.Second, 210*time.Second), 2*minute*(1+0.5*0.935), 0.03)
	near(t, "calls at the bottom", between(calls, 390*time.Second, 510*time.Second), 2*minute*(1-0.5*0.935), 0.03)
}

func TestArrivalsDifferInDispersion(t *testing.T) {
	t.Parallel()
	c := Config{Seed: 5, CPUs: 20, Length: time.Hour, Bursty: -1, Timers: -1}
	poisson := collect(t, must(t)(Azure(c)))
	near(t, "dispersion of Poisson arrivals", dispersion(poisson, c.Length, time.Second), 1, 0.1)
	c.Bursty = 1
	if d := dispersion(collect(t, must(t)(Azure(c))), c.Length, time.Second); d < 5 {
		t.Errorf("dispersion of bursts is %g, want far more than 1", d)
	}
	if d := dispersion(collect(t, must(t)(Markov(c))), c.Length, 10*time.Second); d < 5 {
		t.Errorf("dispersion of modulated arrivals is %g, want far more than 1", d)
	}
}

func TestTimersAreRegular(t *testing.T) {
	t.Parallel()
	w := must(t)(Azure(Config{Seed: 1, Functions: 2000, CPUs: 8, Length: 10 * time.Hour}))
	last, gaps, uneven := map[int]time.Duration{}, map[int]time.Duration{}, map[int]bool{}
	for _, c := range collect(t, w) {
		if before, ok := last[c.Function]; ok {
			gap := c.At - before
			if first, ok := gaps[c.Function]; ok && (gap-first).Abs() > time.Microsecond {
				uneven[c.Function] = true
			}
			gaps[c.Function] = gap
		}
		last[c.Function] = c.At
	}
	// Of the functions with three calls and more; the rarest timers do not show here.
	regular := len(gaps) - len(uneven)
	if regular < 40 {
		t.Errorf("%d functions of %d are called at regular intervals", regular, len(gaps))
	}
}

func TestCronTicksTogether(t *testing.T) {
	t.Parallel()
	w := must(t)(Cron(Config{Seed: 1, Functions: 2000, CPUs: 400, Length: 31 * time.Minute}))
	var at []time.Duration
	for _, c := range collect(t, w) {
		if c.At%time.Minute == 0 {
			at = append(at, c.At)
		}
	}
	// Half of 2,000; every one of them is due at a quarter of an hour.
	near(t, "ticks at 15 minutes", between(calls(at), 15*time.Minute, 15*time.Minute+1), 1000, 0.1)
	near(t, "ticks at 14 minutes", between(calls(at), 14*time.Minute, 14*time.Minute+1), 333, 0.15)
}

// calls makes calls of their times.
func calls(at []time.Duration) []Call {
	calls := make([]Call, len(at))
	for i := range at {
		calls[i].At = at[i]
	}
	return calls
}

func TestParetoRunsHaveAHeavyTail(t *testing.T) {
	t.Parallel()
	c := Config{Seed: 2, CPUs: 1000}
	light, heavy := collect(t, must(t)(Azure(c))), must(t)(HeavyTail(c))
	tail := collect(t, heavy)
	if len(light) != len(tail) {
		t.Fatalf("%d calls and %d: the arrivals differ", len(light), len(tail))
	}
	var over, least float64
	for i, call := range tail {
		if light[i].At != call.At || light[i].Function != call.Function {
			t.Fatalf("call %d differs in more than its run", i)
		}
		x := float64(call.Run) / float64(heavy.Functions[call.Function].Mean)
		if x > 10 {
			over++
		}
		if x < 0.32 {
			least++
		}
	}
	want := (math.Pow(10/paretoMin, -paretoIndex) - paretoCut) / (1 - paretoCut)
	near(t, "part beyond ten times the mean", over/float64(len(tail)), want, 0.1)
	if least > 0 {
		t.Errorf("%g runs are shorter than the least", least)
	}
}

func TestMergeKeepsOrderAndFunctions(t *testing.T) {
	t.Parallel()
	back := must(t)(Azure(Config{Seed: 1, Functions: 100, CPUs: 50}))
	spike := must(t)(Spike(SpikeConfig{Length: 15 * time.Minute}))
	crowd := must(t)(FlashCrowd(CrowdConfig{Functions: 50}))
	all := Merge("all", back, spike, crowd)
	merged := collect(t, all)
	if len(all.Functions) != 151 || all.Length != 15*time.Minute || all.Functions[100].Name != "spike" {
		t.Errorf("%d functions over %s", len(all.Functions), all.Length)
	}
	var parts []Call
	for i, w := range []Workload{back, spike, crowd} {
		for _, c := range collect(t, w) {
			c.Function += []int{0, 100, 101}[i]
			parts = append(parts, c)
		}
	}
	slices.SortStableFunc(parts, func(a, b Call) int { return int(a.At - b.At) })
	if !slices.Equal(parts, merged) {
		t.Error("the merge is not the sorted union of its parts")
	}
	if !slices.Equal(merged, collect(t, all)) {
		t.Error("a second walk yields other calls")
	}
	n := 0
	all.Calls(func(Call) bool { n++; return n < 1000 })
	if n != 1000 {
		t.Errorf("stopped after %d calls, want 1000", n)
	}
	if empty := collect(t, Merge("none")); len(empty) > 0 {
		t.Errorf("%d calls of nothing", len(empty))
	}
}

func TestConfigsAreChecked(t *testing.T) {
	t.Parallel()
	bad := Config{Functions: 3, Length: -1, CPUs: -1, Load: -1, Swing: 1, Day: -1, Timers: 2, Bursty: 2, Runs: 9, RunMax: 1, Concurrency: -1}
	for _, make := range []func(Config) (Workload, error){Azure, HeavyTail, Markov, Cron} {
		_, err := make(bad)
		if err == nil {
			t.Fatal("a bad configuration is taken")
		}
		for _, field := range []string{"Functions", "Length", "CPUs", "Load", "Swing", "Day", "Timers", "Bursty", "RunMax", "Concurrency"} {
			if !strings.Contains(err.Error(), field) {
				t.Errorf("%q does not name %s", err, field)
			}
		}
	}
	if _, err := Spike(SpikeConfig{Rate: math.NaN()}); err == nil {
		t.Error("a spike without a rate is taken")
	}
	if _, err := FlashCrowd(CrowdConfig{At: time.Hour}); err == nil {
		t.Error("a crowd after the end is taken")
	}
}
