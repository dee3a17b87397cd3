package invoke

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins"
)

// Counts is what one version's calls add up to on one node. All of it only grows.
type Counts struct {
	// Calls entered the cluster here and are over, Errors of them failed, by the
	// function's doing or ours; a caller who left is no error.
	Calls, Errors uint64
	// Cold calls waited for an instance to start; Forwarded ones ran elsewhere.
	Cold, Forwarded uint64
	// Resent counts attempts beyond the first: refusals and broken links.
	Resent uint64
	// Ran counts the calls that ran here, wherever they entered.
	Ran uint64
}

// Add adds another node's, or another version's, counts.
func (c *Counts) Add(o *Counts) {
	c.Calls += o.Calls
	c.Errors += o.Errors
	c.Cold += o.Cold
	c.Forwarded += o.Forwarded
	c.Resent += o.Resent
	c.Ran += o.Ran
}

// VersionTraffic is the traffic of one version at one moment.
type VersionTraffic struct {
	Key state.VersionKey
	Counts
	// Times are the response times of Calls, as their entry node saw them.
	Times Histogram
}

// Since is what was counted after an earlier moment of the same boot; nil is the
// boot itself.
func (v *VersionTraffic) Since(before *VersionTraffic) *VersionTraffic {
	d := *v
	if before == nil || v.Calls < before.Calls || v.Ran < before.Ran {
		return &d // the version was deleted and made again between
	}
	d.Calls -= before.Calls
	d.Errors -= before.Errors
	d.Cold -= before.Cold
	d.Forwarded -= before.Forwarded
	d.Resent -= before.Resent
	d.Ran -= before.Ran
	for i, n := range before.Times {
		d.Times[i] -= n
	}
	return &d
}

// Traffic counts the calls of each version on this node. Counting takes no lock
// and allocates nothing. Safe for concurrent use.
type Traffic struct {
	view    func() *state.View
	metrics []trafficMetric

	mu       sync.Mutex
	versions map[state.VersionKey]*counters // guarded by mu
	// gone is what versions that were deleted had counted, for the metrics of
	// their function, which must not fall.
	gone   map[state.FunctionKey]*Counts // guarded by mu
	limit  int                           // guarded by mu; so many versions are looked through for deleted ones
	sample uint64                        // guarded by mu; grows with each Sample
}

// counters are the Counts that calls add to.
type counters struct {
	calls, errors, cold, forwarded, resent, ran atomic.Uint64

	times liveHistogram

	seen    uint64 // guarded by Traffic.mu; calls and runs at the last sample
	changed uint64 // guarded by Traffic.mu; the first sample that saw the newest of them
}

func newTraffic(view func() *state.View) *Traffic {
	return &Traffic{
		view: view, metrics: trafficMetrics(), versions: map[state.VersionKey]*counters{}, gone: map[state.FunctionKey]*Counts{}, limit: 64,
	}
}

// of finds the counters of a version, or makes them. It is called once for each
// version and view, not for each call.
func (t *Traffic) of(key state.VersionKey) *counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.versions[key]
	if c == nil {
		if len(t.versions) >= t.limit {
			t.forgetLocked()
			t.limit = max(64, 2*len(t.versions))
		}
		c = &counters{}
		t.versions[key] = c
	}
	return c
}

// forgetLocked drops what was counted for versions that no longer exist, so that
// memory and metrics are bounded by what is deployed.
func (t *Traffic) forgetLocked() {
	view := t.view()
	for key, c := range t.versions {
		if view.Version(key) != nil {
			continue
		}
		counts := c.read()
		sum := t.gone[key.FunctionKey()]
		if sum == nil {
			sum = &Counts{}
			t.gone[key.FunctionKey()] = sum
		}
		sum.Add(&counts)
		delete(t.versions, key)
	}
	maps.DeleteFunc(t.gone, func(key state.FunctionKey, _ *Counts) bool { return view.Function(key.App, key.Name) == nil })
}

func (c *counters) read() Counts {
	return Counts{
		Calls: c.calls.Load(), Errors: c.errors.Load(), Cold: c.cold.Load(), Forwarded: c.forwarded.Load(),
		Resent: c.resent.Load(), Ran: c.ran.Load(),
	}
}

// entered counts a call that entered here and is over.
func (c *counters) entered(r *run, resp *Response, err error, took time.Duration) {
	c.times.add(took)
	if resp != nil && resp.FunctionError != nil || err != nil && !errors.Is(err, ErrCanceled) {
		c.errors.Add(1)
	}
	if resp != nil {
		if resp.Cold {
			c.cold.Add(1)
		}
		if resp.Node != r.path.cfg.Self {
			c.forwarded.Add(1)
		}
	}
	if n := len(r.attempts); n > 1 {
		c.resent.Add(uint64(n - 1))
	}
	c.calls.Add(1) // last: who sees the call sees the rest of it
}

// ranHere counts an attempt that reached an instance of this node.
func (c *counters) ranHere(err error) {
	if err == nil || !errors.Is(err, plugins.ErrNotStarted) {
		c.ran.Add(1)
	}
}

// Sample reads the counters of the versions that had traffic after the sample
// numbered since, or of all for 0, by key, and returns its own number. Numbers
// grow, so who asks again with the last one learns what has changed.
func (t *Traffic) Sample(since uint64) (versions []VersionTraffic, sample uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked()
	t.sample++
	for key, c := range t.versions {
		if now := c.calls.Load() + c.ran.Load(); now != c.seen {
			c.seen, c.changed = now, t.sample
		}
		if c.changed <= since {
			continue
		}
		v := VersionTraffic{Key: key, Counts: c.read()}
		c.times.read(&v.Times)
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b VersionTraffic) int {
		return cmp.Or(cmp.Compare(a.Key.App, b.Key.App), cmp.Compare(a.Key.Function, b.Key.Function), cmp.Compare(a.Key.Number, b.Key.Number))
	})
	return versions, t.sample
}

// trafficMetric is one number of each function, which adds up over its versions.
type trafficMetric struct {
	desc  *prometheus.Desc
	value func(*Counts) uint64
}

func trafficMetrics() []trafficMetric {
	metric := func(name, help string, value func(*Counts) uint64) trafficMetric {
		return trafficMetric{prometheus.NewDesc("covey_invoke_"+name, help, []string{"function"}, nil), value}
	}
	return []trafficMetric{
		metric("calls_total", "Calls that entered the cluster on this node and are over.", func(c *Counts) uint64 { return c.Calls }),
		metric("errors_total", "Those of them that failed, by the function's doing or the platform's.", func(c *Counts) uint64 { return c.Errors }),
		metric("cold_total", "Those of them that waited for an instance to start.", func(c *Counts) uint64 { return c.Cold }),
		metric("forwarded_total", "Those of them that ran on another node.", func(c *Counts) uint64 { return c.Forwarded }),
		metric("resent_total", "Attempts beyond the first of each call.", func(c *Counts) uint64 { return c.Resent }),
		metric("ran_total", "Calls that ran on this node, wherever they entered.", func(c *Counts) uint64 { return c.Ran }),
	}
}

var _ prometheus.Collector = (*Traffic)(nil)

// Describe sends the descriptions of all metrics.
func (t *Traffic) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range t.metrics {
		ch <- m.desc
	}
}

// Collect sends one series of each metric for each function that exists and was
// called here.
func (t *Traffic) Collect(ch chan<- prometheus.Metric) {
	for key, sum := range t.byFunction() {
		for _, m := range t.metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(sum)), key.String())
		}
	}
}

// byFunction adds up the versions of each function, deleted ones included.
func (t *Traffic) byFunction() map[state.FunctionKey]*Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked()
	sums := make(map[state.FunctionKey]*Counts, len(t.gone))
	for key, c := range t.gone {
		sum := *c
		sums[key] = &sum
	}
	for key, c := range t.versions {
		sum := sums[key.FunctionKey()]
		if sum == nil {
			sum = &Counts{}
			sums[key.FunctionKey()] = sum
		}
		counts := c.read()
		sum.Add(&counts)
	}
	return sums
}
