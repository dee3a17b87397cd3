package link

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/plugins"
)

// metrics holds one counter per outcome, resolved once: a label look-up per call
// would cost more than the counting.
type metrics struct {
	ok, function, notStarted, unknown prometheus.Counter
	served, broken                    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *Link) (*metrics, error) {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "covey", Subsystem: "link", Name: "calls_total",
		Help: "Calls sent to other nodes, by how they ended.",
	}, []string{"outcome"})
	m := &metrics{
		ok:         calls.WithLabelValues("ok"),
		function:   calls.WithLabelValues("function_error"),
		notStarted: calls.WithLabelValues("not_started"),
		unknown:    calls.WithLabelValues("unknown"),
		served: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "covey", Subsystem: "link", Name: "served_total", Help: "Calls of other nodes served.",
		}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "covey", Subsystem: "link", Name: "broken_total", Help: "Links to other nodes that broke.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, value func(*peer) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "covey", Subsystem: "link", Name: name, Help: help,
		}, func() float64 { return l.sum(value) })
	}
	return m, errors.Join(
		reg.Register(calls), reg.Register(m.served), reg.Register(m.broken),
		reg.Register(gauge("up", "Links to other nodes that work.", func(p *peer) float64 {
			if p.pick() == nil {
				return 0
			}
			return 1
		})),
		reg.Register(gauge("in_flight", "Calls open to other nodes.", func(p *peer) float64 {
			return float64(p.inFlight.Load())
		})),
	)
}

// sum adds a value over the peers.
func (l *Link) sum(value func(*peer) float64) (total float64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, p := range l.peers {
		total += value(p)
	}
	return total
}

// outcome sorts a call by what its caller may do next. A function's own error is
// an answer, not a failure of the link.
func (m *metrics) outcome(err error) {
	if err == nil {
		m.ok.Inc()
		return
	}
	if _, ok := errors.AsType[*plugins.FunctionError](err); ok {
		m.function.Inc()
		return
	}
	if errors.Is(err, ErrNotStarted) {
		m.notStarted.Inc()
		return
	}
	m.unknown.Inc()
}
