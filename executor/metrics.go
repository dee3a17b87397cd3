package executor

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/plugins"
)

// metrics is everything the executor exports. Counters are per function and add
// up over its versions; gauges are read from the pools when they are scraped.
type metrics struct {
	registerer prometheus.Registerer
	e          *Executor

	calls, refused, cold, starts, exits, evictions, prewarms *prometheus.CounterVec
	duration, startSeconds, startSteps                       *prometheus.HistogramVec

	depth, limit, inFlight, instances, reserved, budget, logLines *prometheus.Desc
	share, entered, waiting                                       *prometheus.Desc
	startLimit, startQueue, memoryQueue                           *prometheus.Desc
}

// poolMetrics are the metrics of one function, looked up once.
type poolMetrics struct {
	drops, crashLoop, gone, noMemory, startFailed prometheus.Counter // refused calls by reason
	ok, failed, timedOut, lost, cancelled         prometheus.Counter // calls by outcome
	cold                                          prometheus.Counter
	starts, exits, evictions, prewarms            *prometheus.CounterVec
	duration, startSeconds                        prometheus.Observer
}

var _ prometheus.Collector = (*metrics)(nil)

// newMetrics is one straight list of what is exported.
func newMetrics(registerer prometheus.Registerer, e *Executor) (*metrics, error) {
	const ns, sub = "covey", "executor"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help},
			append([]string{"function"}, labels...))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: name, Help: help, Buckets: buckets,
		}, []string{"function"})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(ns, sub, name), help, labels, nil)
	}
	m := &metrics{
		registerer: registerer,
		e:          e,
		calls:      counter("calls_total", "Calls that reached an instance, by outcome.", "outcome"),
		refused:    counter("refused_total", "Calls that did not start, by reason.", "reason"),
		cold:       counter("cold_calls_total", "Calls that waited for an instance to start."),
		starts:     counter("starts_total", "Instances started, by result.", "result"),
		exits:      counter("exits_total", "Instances that ended after they were ready, by reason.", "reason"),
		evictions:  counter("evictions_total", "Healthy instances ended by the node, by reason.", "reason"),
		prewarms:   counter("prewarms_total", "Instances started ahead of an expected call, by whether it came.", "result"),
		duration: histogram("call_duration_seconds", "Time of calls in instances.",
			prometheus.ExponentialBuckets(50e-6, 2.5, 16)),
		startSeconds: histogram("start_duration_seconds", "Time from launching an instance until it is ready.",
			prometheus.ExponentialBuckets(500e-6, 2, 15)),
		startSteps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "start_step_duration_seconds",
			Help:    "Time of the steps of starts that a call waited for.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2.5, 14),
		}, []string{"runtime", "step"}),
		depth:       desc("queue_depth", "Calls waiting for a slot.", "function"),
		limit:       desc("queue_limit", "Calls that may wait for a slot.", "function"),
		inFlight:    desc("in_flight", "Calls in instances.", "function"),
		instances:   desc("instances", "Living instances by state.", "function", "state"),
		reserved:    desc("memory_reserved_bytes", "Memory limits of all living instances."),
		budget:      desc("memory_budget_bytes", "Memory that instances may have together."),
		share:       desc("reserved_share", "Calls that reserved concurrency lets run here at once.", "function"),
		entered:     desc("reserved_in_use", "Calls that reserved concurrency has let in.", "function"),
		waiting:     desc("reserved_waiting", "Calls that wait for reserved concurrency.", "function"),
		startLimit:  desc("start_limit", "Instances that may be starting at once, by how contended the processors are."),
		startQueue:  desc("start_queue_depth", "Starts waiting for their turn."),
		memoryQueue: desc("memory_queue_depth", "Versions whose calls wait for memory."),
		logLines:    desc("log_lines_dropped_total", "Lines of output that could not be kept."),
	}
	return m, registerer.Register(m)
}

// unregister lets another executor in the process register its own.
func (m *metrics) unregister() { m.registerer.Unregister(m) }

// vectors are the metrics that count by themselves; the others are read from the
// pools.
func (m *metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.refused, m.cold, m.starts, m.exits, m.evictions, m.prewarms, m.duration, m.startSeconds, m.startSteps}
}

// pool looks up the metrics of a version's function.
func (m *metrics) pool(key Key) *poolMetrics {
	fn := key.App + "/" + key.Function
	curry := func(v *prometheus.CounterVec) *prometheus.CounterVec {
		return v.MustCurryWith(prometheus.Labels{"function": fn})
	}
	return &poolMetrics{
		drops:        m.refused.WithLabelValues(fn, "queue_full"),
		crashLoop:    m.refused.WithLabelValues(fn, "crash_loop"),
		gone:         m.refused.WithLabelValues(fn, "caller_gone"),
		noMemory:     m.refused.WithLabelValues(fn, "no_memory"),
		startFailed:  m.refused.WithLabelValues(fn, "start_failed"),
		cancelled:    m.calls.WithLabelValues(fn, "cancelled"),
		ok:           m.calls.WithLabelValues(fn, "ok"),
		failed:       m.calls.WithLabelValues(fn, "function_error"),
		timedOut:     m.calls.WithLabelValues(fn, "timeout"),
		lost:         m.calls.WithLabelValues(fn, "lost"),
		cold:         m.cold.WithLabelValues(fn),
		starts:       curry(m.starts),
		exits:        curry(m.exits),
		evictions:    curry(m.evictions),
		prewarms:     curry(m.prewarms),
		duration:     m.duration.WithLabelValues(fn),
		startSeconds: m.startSeconds.WithLabelValues(fn),
	}
}

// started observes the steps of a start.
func (m *metrics) started(runtime string, st *Steps) {
	for _, step := range []struct {
		name string
		took time.Duration
	}{{"fetch", st.Fetch}, {"spawn", st.Spawn}, {"handshake", st.Handshake}, {"init", st.Init}} {
		m.startSteps.WithLabelValues(runtime, step.name).Observe(step.took.Seconds())
	}
}

// forget drops a function's series once it has no pool left.
func (m *metrics) forget(key Key) {
	labels := prometheus.Labels{"function": key.App + "/" + key.Function}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.calls, m.refused, m.cold, m.starts, m.exits, m.evictions, m.prewarms, m.duration, m.startSeconds, m.startSteps} {
		v.DeletePartialMatch(labels)
	}
}

// Describe sends the descriptions of all metrics.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vectors() {
		v.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{
		m.depth, m.limit, m.inFlight, m.instances, m.reserved, m.budget, m.logLines, m.share, m.entered, m.waiting,
		m.startLimit, m.startQueue, m.memoryQueue,
	} {
		ch <- d
	}
}

// Collect sends the counters, and the gauges as the pools have them now.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.vectors() {
		v.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	loads := map[string]Load{}
	for key, p := range *m.e.pools.Load() {
		fn := key.App + "/" + key.Function
		l, sum := p.load(), loads[fn]
		sum.Queued += l.Queued
		sum.Queue += l.Queue
		sum.InFlight += l.InFlight
		loads[fn] = sum
	}
	for fn, l := range loads {
		gauge(m.depth, l.Queued, fn)
		gauge(m.limit, l.Queue, fn)
		gauge(m.inFlight, l.InFlight, fn)
	}
	for _, g := range m.e.gates.list() {
		fn := g.fn.app + "/" + g.fn.name
		gauge(m.share, g.share(), fn)
		gauge(m.entered, int(g.running.Load()), fn)
		gauge(m.waiting, int(g.waiting.Load()), fn)
	}
	states := map[[2]string]int{}
	for _, in := range m.e.Instances() {
		states[[2]string{in.Key.App + "/" + in.Key.Function, in.State.String()}]++
	}
	for s, n := range states {
		gauge(m.instances, n, s[0], s[1])
	}
	gauge(m.reserved, int(m.e.memory.inUse()))
	gauge(m.budget, int(m.e.cfg.Memory))
	limit, queued := m.e.turns.figures()
	gauge(m.startLimit, limit)
	gauge(m.startQueue, queued)
	gauge(m.memoryQueue, int(m.e.memory.contended.Load()))
	ch <- prometheus.MustNewConstMetric(m.logLines, prometheus.CounterValue, float64(m.e.logs.dropped.Load()))
}

// count records a finished call and passes its usage to the meter.
func (e *Executor) count(p *pool, u *Usage, took time.Duration, err error) {
	p.m.duration.Observe(took.Seconds())
	switch {
	case err == nil:
		p.m.ok.Inc()
	case errors.Is(err, ErrTimeout):
		p.m.timedOut.Inc()
	case errors.Is(err, context.Canceled):
		p.m.cancelled.Inc()
	default:
		if _, ok := errors.AsType[*plugins.FunctionError](err); ok {
			p.m.failed.Inc()
		} else {
			p.m.lost.Inc()
		}
	}
	if u.Cold {
		p.m.cold.Inc()
	}
	if e.cfg.Meter != nil {
		e.cfg.Meter(*u)
	}
}
