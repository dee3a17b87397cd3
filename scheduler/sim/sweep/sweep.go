package sweep

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/covey-dev/covey/scheduler/sim"
	"github.com/covey-dev/covey/scheduler/sim/workload"
)

// Options says what is run.
type Options struct {
	// Quick runs a small part, for a look within two minutes.
	Quick bool
	// Progress gets a line for each finished run.
	Progress io.Writer
}

// cell is one setting.
type cell struct {
	// group and at place the cell in a chart: what varies, and its value.
	group    string
	at       float64
	unit     string
	nodes    int
	load     float64
	stale    time.Duration
	fails    int
	seed     uint64
	generate func(workload.Config) (workload.Workload, error)
}

// result is a cell with what each policy made of it, in the policies' order.
type result struct {
	cell
	reports []*sim.Report
}

// bound is the report of the policy that cannot be built.
func (r *result) bound() *sim.Report { return r.reports[len(r.reports)-1] }

// cells lists the sweep; the first is the one of the table.
func cells(quick bool) []cell {
	base := cell{group: "base", nodes: 1000, load: 0.7, stale: time.Second, seed: 1}
	if quick {
		base.nodes = 30
	}
	list := []cell{base}
	add := func(group, unit string, at float64, change func(c *cell)) {
		c := base
		c.group, c.unit, c.at = group, unit, at
		change(&c)
		list = append(list, c)
	}
	sizes := []int{10, 100, 1000, 10000}
	if quick {
		sizes = []int{10, 30}
	}
	for _, n := range sizes {
		add("nodes", "", float64(n), func(c *cell) { c.nodes = n })
	}
	loads, ages := []float64{0.3, 0.5, 0.7, 0.8, 0.9, 0.95}, []float64{0, 0.5, 1, 2, 5}
	if quick {
		loads, ages = []float64{0.3, 0.9}, []float64{0, 5}
	}
	for _, l := range loads {
		add("load", "%", 100*l, func(c *cell) { c.load = l })
	}
	for _, d := range ages {
		add("staleness", "s", d, func(c *cell) { c.stale = time.Duration(d * float64(time.Second)) })
	}
	for _, part := range []int{0, 10} {
		add("failures", "% of nodes", float64(part), func(c *cell) { c.fails = c.nodes * part / 100 })
	}
	seeds := 5
	if quick {
		seeds = 1
	}
	for seed := range seeds {
		add("unseen seeds", "", float64(seed+1), func(c *cell) { c.seed = 1000 + uint64(seed) })
	}
	add("unseen generator: heavy tail", "", 1, func(c *cell) { c.generate = workload.HeavyTail })
	add("unseen generator: Markov", "", 2, func(c *cell) { c.generate = workload.Markov })
	return list
}

// length is how long a cell's workload lasts: shorter the larger the cluster, so
// that a run has about a million calls at most.
func length(nodes int, quick bool) time.Duration {
	calls := 1_000_000.0
	if quick {
		calls = 60_000
	}
	const perNode = 16 // calls per second, about
	return time.Duration(min(max(calls/float64(nodes*perNode), 8), 120) * float64(time.Second))
}

func (c *cell) config(quick bool) (sim.Config, error) {
	cfg := sim.DefaultConfig()
	cfg.Nodes, cfg.Staleness, cfg.Failures, cfg.Seed = c.nodes, c.stale, c.fails, c.seed
	cfg.Entries = min(c.nodes, 1000)
	cfg.Warmup = 0.6 // a cluster that begins cold with its full load takes a while
	if quick {
		cfg.Entries = min(c.nodes, 250)
	}
	shape := workload.Config{
		Functions: max(2*min(c.nodes, 1000), 50), CPUs: c.nodes * cfg.CPUs, Load: c.load,
		Length: length(c.nodes, quick), Seed: c.seed, RunMax: 500 * time.Millisecond,
		// Bursts and timers move the load of a short run far from what it shall be. The
		// unseen generators have them.
		Bursty: -1, Timers: -1,
	}
	generate := workload.Azure
	if c.generate != nil {
		generate = c.generate
	}
	var err error
	cfg.Workload, err = generate(shape)
	return cfg, err
}

// Run runs the sweep.
func Run(o Options) (*Results, error) {
	out := &Results{}
	list := cells(o.Quick)
	for i := range list {
		c := &list[i]
		res := result{cell: *c}
		cfg, err := c.config(o.Quick)
		if err != nil {
			return nil, fmt.Errorf("make the calls of %s: %w", c.group, err)
		}
		prefix := fmt.Sprintf("%d/%d %s %v%s, %d nodes, load %.0f %%", i+1, len(list), c.group, c.at, c.unit, c.nodes, 100*c.load)
		if res.reports, err = all(&cfg, prefix, o.Progress); err != nil {
			return nil, err
		}
		out.list = append(out.list, res)
	}
	return out, nil
}

// all runs every policy, as many at once as there are processors. Each run is a
// function of its configuration, so the order does not matter.
func all(cfg *sim.Config, prefix string, progress io.Writer) ([]*sim.Report, error) {
	policies := sim.Policies()
	reports := make([]*sim.Report, len(policies))
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for i, p := range policies {
		group.Go(func() error {
			begun := time.Now()
			own := *cfg
			own.Policy = p
			r, err := sim.Run(own)
			if err != nil {
				return fmt.Errorf("simulate %s: %w", p.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			reports[i] = r
			_, _ = fmt.Fprintf(progress, "%s: %s %.2f (%d calls in %v)\n", prefix, p.Name, r.Geometric, r.Calls, time.Since(begun).Round(10*time.Millisecond))
			return nil
		})
	}
	return reports, group.Wait()
}

// Results are what a sweep measured.
type Results struct{ list []result }
