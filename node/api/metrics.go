package api

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the front's numbers. The names gateway_… are OpenFaaS's, kept so
// that existing dashboards work.
type metrics struct {
	invocations *prometheus.CounterVec   // by function_name and code
	seconds     *prometheus.HistogramVec // by function_name
	requests    *prometheus.CounterVec   // management, by route and code
	connections prometheus.Gauge
	refused     prometheus.Counter

	// handles holds each function's metrics ready, because finding them by
	// label costs a warm call half a microsecond. The map is never changed:
	// writers replace it under mu.
	mu      sync.Mutex
	handles atomic.Pointer[map[handleKey]*handle]
}

type handleKey struct {
	app, name string
	status    int
}

// handle is what one function's calls with one status count into.
type handle struct {
	total   prometheus.Counter
	seconds prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_total", Help: "Invocations by function and HTTP status.",
		}, []string{"function_name", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_functions_seconds", Help: "Time from the request's header to its answer, by function.",
			// From a warm call's overhead to the longest timeout.
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900},
		}, []string{"function_name"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "covey_api_requests_total", Help: "Management requests by route and HTTP status.",
		}, []string{"route", "code"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "covey_api_connections", Help: "Open connections of clients.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "covey_api_connections_refused_total", Help: "Connections closed because a limit was reached.",
		}),
	}
	empty := map[handleKey]*handle{}
	m.handles.Store(&empty)
	var errs []error
	for _, c := range []prometheus.Collector{m.invocations, m.seconds, m.requests, m.connections, m.refused} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// invoked counts one finished call. Callers give names of functions that exist
// only, so the number of handles is bounded by what was ever deployed here.
func (m *metrics) invoked(app, name string, status int, took time.Duration) {
	key := handleKey{app: app, name: name, status: status}
	h, ok := (*m.handles.Load())[key]
	if !ok {
		h = m.newHandle(key)
	}
	h.total.Inc()
	h.seconds.Observe(took.Seconds())
}

// newHandle makes the metrics of a function and a status that were not seen
// together before. It is rare, so copying the map is cheap in sum.
func (m *metrics) newHandle(key handleKey) *handle {
	label := key.name + "." + key.app // OpenFaaS's form, NAME.NAMESPACE
	if key.name == "" {
		label = "unknown"
	}
	h := &handle{
		total:   m.invocations.WithLabelValues(label, strconv.Itoa(key.status)),
		seconds: m.seconds.WithLabelValues(label),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	larger := maps.Clone(*m.handles.Load())
	larger[key] = h
	m.handles.Store(&larger)
	return h
}

// managed counts one management request.
func (m *metrics) managed(route string, status int) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

// serveMetrics serves GET /metrics.
func (s *Server) serveMetrics(c *call) error {
	promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(c.w, c.r)
	return nil
}

// livez serves GET /livez: the process answers.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}
