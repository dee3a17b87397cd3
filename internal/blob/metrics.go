package blob

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the store did. They work unregistered too.
type metrics struct {
	puts, sent, received, fetches    prometheus.Counter
	repaired, collected, quarantined prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "covey", Subsystem: "blob", Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "covey", Subsystem: "blob", Name: name, Help: help}, value)
	}
	m := &metrics{
		puts:        counter("puts_total", "Blobs put through this node."),
		sent:        counter("sent_bytes_total", "Bytes of blobs sent to other nodes."),
		received:    counter("received_bytes_total", "Bytes of blobs received from other nodes."),
		fetches:     counter("fetches_total", "Blobs fetched from other nodes."),
		repaired:    counter("repaired_total", "Blobs that this node owned, lacked and fetched."),
		collected:   counter("collected_total", "Blobs deleted because nothing named them."),
		quarantined: counter("quarantined_total", "Blobs set aside because they did not match their digest."),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.puts, m.sent, m.received, m.fetches, m.repaired, m.collected, m.quarantined,
		gauge("count", "Blobs on this node.", func() float64 { n, _ := s.Len(); return float64(n) }),
		gauge("bytes", "Bytes of the blobs on this node.", func() float64 { _, n := s.Len(); return float64(n) }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
