package sim

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/covey-dev/covey/scheduler/sim/workload"
)

// poisson makes calls of one function that starts in no time.
func poisson(rate float64, mean, length time.Duration, concurrency int) workload.Workload {
	return workload.Workload{
		Name: "poisson", Length: length,
		Functions: []workload.Function{{Mean: mean, Cold: 1, Memory: 1 << 20, Concurrency: concurrency}},
		Calls: func(yield func(workload.Call) bool) {
			r := rand.New(rand.NewPCG(3, 4))
			for at := r.ExpFloat64() / rate; at < length.Seconds(); at += r.ExpFloat64() / rate {
				run := time.Duration(r.ExpFloat64() * float64(mean))
				if !yield(workload.Call{At: time.Duration(at * 1e9), Run: run}) {
					return
				}
			}
		},
	}
}

func policyNamed(t *testing.T, name string) Policy {
	t.Helper()
	for _, p := range Policies() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no policy %q", name)
	return Policy{}
}

func run(t *testing.T, cfg Config) *Report {
	t.Helper()
	r, err := Run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// single is one node on which calls never wait for an instance.
func single(t *testing.T, w workload.Workload, cpus int) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Nodes, cfg.CPUs, cfg.Workload, cfg.Policy = 1, cpus, w, policyNamed(t, "random")
	cfg.Queue = 1 << 20
	return cfg
}

func within(t *testing.T, what string, got, want, part float64) {
	t.Helper()
	if math.Abs(got/want-1) > part {
		t.Errorf("%s is %v, want %v within %v %%", what, got, want, 100*part)
	}
}

func TestOneProcessorIsAnMM1ProcessorSharingQueue(t *testing.T) {
	t.Parallel()
	const mean, rho = 10 * time.Millisecond, 0.7
	r := run(t, single(t, poisson(rho/mean.Seconds(), mean, 4000*time.Second, 1000), 1))
	// T = S/(1-ρ), and the slowdown of every size is 1/(1-ρ).
	within(t, "mean response", r.MeanResponse.Seconds(), mean.Seconds()/(1-rho), 0.03)
	within(t, "mean slowdown", r.Mean, 1/(1-rho), 0.03)
	within(t, "utilization", r.Utilization, rho, 0.02)
}

func TestManyProcessorsAreAnMMcQueue(t *testing.T) {
	t.Parallel()
	// With exponential runs the number of jobs of processor sharing over c
	// processors is that of M/M/c, and so is the mean response by Little's law.
	const mean, rho, c = 10 * time.Millisecond, 0.8, 4
	load := rho * c
	term, sum := 1.0, 0.0
	for k := range c {
		sum += term
		term *= load / float64(k+1)
	}
	tail := term / (1 - rho)
	wait := tail / (sum + tail)
	want := mean.Seconds() * (1 + wait/(c*(1-rho)))
	r := run(t, single(t, poisson(load/mean.Seconds(), mean, 1500*time.Second, 1000), c))
	within(t, "mean response", r.MeanResponse.Seconds(), want, 0.03)
}

func TestSameSeedGivesTheSameReport(t *testing.T) {
	t.Parallel()
	w, err := workload.Azure(workload.Config{Functions: 40, CPUs: 40, Load: 0.7, Length: 20 * time.Second, RunMax: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Policies() {
		cfg := DefaultConfig()
		cfg.Nodes, cfg.Workload, cfg.Policy, cfg.Failures = 10, w, p, 2
		cfg.Memory = 2 << 30
		a, b := run(t, cfg), run(t, cfg)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: two runs differ:\n%+v\n%+v", p.Name, a, b)
		}
		if a.Lost != 0 || a.Calls == 0 {
			t.Errorf("%s: %d of %d calls never got an answer", p.Name, a.Lost, a.Calls)
		}
		if a.P50 < 1 || a.Utilization <= 0 || a.Utilization > 1 || a.BusyMemory > a.Memory {
			t.Errorf("%s: impossible report %+v", p.Name, a)
		}
	}
}

func TestWorkIsConserved(t *testing.T) {
	t.Parallel()
	// What the processors did is what the calls and their starts needed.
	w := poisson(100, 20*time.Millisecond, 30*time.Second, 1)
	work := 0.0
	w.Calls(func(c workload.Call) bool { work += c.Run.Seconds(); return true })
	cfg := DefaultConfig()
	cfg.Nodes, cfg.CPUs, cfg.Workload, cfg.Warmup = 3, 2, w, 0
	cfg.Policy = policyNamed(t, "random")
	r := run(t, cfg)
	within(t, "processor time", r.Utilization*30*6, work, 0.01)
}
