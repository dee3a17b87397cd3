package group

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// muxMetrics counts what happens at the peer port.
type muxMetrics struct {
	handshakes *prometheus.CounterVec
	took       prometheus.Histogram
	set        collectors
}

// newMuxMetrics registers with reg, which may be nil.
func newMuxMetrics(reg prometheus.Registerer) (*muxMetrics, error) {
	m := &muxMetrics{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "covey_peer_handshakes_total",
			Help: "TLS handshakes on the peer port, by result.",
		}, []string{"result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "covey_peer_handshake_seconds",
			Help:    "Time of a successful handshake on the peer port.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 7),
		}),
	}
	if err := m.set.register(reg, m.handshakes, m.took); err != nil {
		return nil, fmt.Errorf("register peer port metrics: %w", err)
	}
	return m, nil
}

// unregister lets the peer port be opened again in this process.
func (m *muxMetrics) unregister() { m.set.unregister() }

// groupMetrics are the metrics of one group, labelled with its name.
type groupMetrics struct {
	proposals   *prometheus.CounterVec
	commit      prometheus.Histogram
	leaderships prometheus.Counter
	snapshots   *prometheus.CounterVec
	write       prometheus.Histogram
	diskFull    prometheus.Counter
	vouched     prometheus.Counter
	changes     *prometheus.CounterVec
	set         collectors
}

// newGroupMetrics registers with reg, which may be nil; gauges are read on scrape.
func newGroupMetrics(reg prometheus.Registerer, name string, gauges map[string]func() float64) (*groupMetrics, error) {
	if reg != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"group": name}, reg)
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "covey_group_" + name, Help: help}
	}
	seconds := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Name: "covey_group_" + name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10),
		}
	}
	m := &groupMetrics{
		proposals:   prometheus.NewCounterVec(counter("proposals_total", "Proposals on this node, by result."), []string{"result"}),
		commit:      prometheus.NewHistogram(seconds("commit_seconds", "Time from proposal to its application on the leader.")),
		leaderships: prometheus.NewCounter(counter("leaderships_total", "Times this node became the leader.")),
		snapshots:   prometheus.NewCounterVec(counter("snapshots_total", "Snapshots taken, by result."), []string{"result"}),
		write:       prometheus.NewHistogram(seconds("log_write_seconds", "Time of one synced write to the log store.")),
		diskFull:    prometheus.NewCounter(counter("disk_full_total", "Writes that met a full disk.")),
		vouched:     prometheus.NewCounter(counter("heartbeats_vouched_total", "Heartbeats answered for a main loop that waited for the disk.")),
		changes:     prometheus.NewCounterVec(counter("role_changes_total", "Changes of roles made by this leader, by result."), []string{"result"}),
	}
	all := []prometheus.Collector{
		m.proposals, m.commit, m.leaderships, m.snapshots, m.write, m.diskFull, m.vouched, m.changes,
	}
	for name, read := range gauges {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "covey_group_" + name,
			Help: "Current " + name + " of the group on this node.",
		}, read))
	}
	if err := m.set.register(reg, all...); err != nil {
		return nil, fmt.Errorf("register group metrics: %w", err)
	}
	return m, nil
}

// collectors remembers what was registered, so that a component can be opened
// again in the same process.
type collectors struct {
	reg prometheus.Registerer
	all []prometheus.Collector
}

// register registers all or none.
func (c *collectors) register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	c.reg = reg
	var errs []error
	for _, one := range all {
		if err := reg.Register(one); err != nil {
			errs = append(errs, err)
			continue
		}
		c.all = append(c.all, one)
	}
	if err := errors.Join(errs...); err != nil {
		c.unregister()
		return err
	}
	return nil
}

// unregister may be called twice.
func (c *collectors) unregister() {
	for _, one := range c.all {
		c.reg.Unregister(one)
	}
	c.all = nil
}
