package assign

import "github.com/prometheus/client_golang/prometheus"

// metrics count what the loop did since this daemon started.
type metrics struct {
	plans, changes, shares, failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "covey", Subsystem: "assign", Name: name, Help: help})
	}
	m := &metrics{
		plans:    counter("plans_total", "Plans made while this node led."),
		changes:  counter("changes_total", "Assignments put or dropped."),
		shares:   counter("reservation_changes_total", "Functions whose shares of reserved concurrency were changed."),
		failures: counter("failures_total", "Proposals of assignments that failed or were outdated."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.plans, m.changes, m.shares, m.failures} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
