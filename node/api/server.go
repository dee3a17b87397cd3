package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/node/client/wire"
)

// Server answers HTTP on one node. Make it with [New]; it is safe for
// concurrent use.
type Server struct {
	cfg     Config
	log     zerolog.Logger
	mux     *http.ServeMux
	metrics *metrics
	scratch sync.Pool // of *scratch
	buffers buffers

	draining atomic.Bool
	drained  atomic.Int64 // when draining began, in Unix nanoseconds
	// quiet ends when draining begins. It ends answers that would otherwise go
	// on for ever: followed logs.
	quiet   context.Context
	beQuiet context.CancelFunc
	served  atomic.Bool
	// patience is lingerTime; a test waits longer.
	patience time.Duration
}

// New wires a server and registers its metrics. It serves nothing before Run.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure api: %w", err)
	}
	s := &Server{
		cfg: cfg,
		log: cfg.Logger.With().Str("component", "api").Logger(),
		mux: http.NewServeMux(), patience: lingerTime,
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, fmt.Errorf("register api metrics: %w", err)
	}
	s.metrics = m
	s.scratch.New = func() any { return new(scratch) }
	s.quiet, s.beQuiet = context.WithCancel(context.Background())
	for _, rt := range routes() {
		s.mux.Handle(rt.pattern(), s.handler(rt))
	}
	return s, nil
}

// ServeHTTP answers one request. It lets tests and other listeners use the
// server without Run.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !plainPath(r.URL) {
		c := &call{w: w, r: r, id: requestID(r)}
		s.fail(c, refusal(http.StatusBadRequest, wire.CodeBadRequest, "the path has empty, dot or control segments"))
		return
	}
	if len(r.TransferEncoding) > 0 {
		// net/http hides whether such a request had a Content-Length too. One that
		// has both may be half of a smuggling attempt, after which the connection
		// must end (RFC 9112, 6.1), so it ends after each of them.
		w.Header().Set("Connection", "close")
	}
	s.mux.ServeHTTP(w, r)
}

// Drain makes readiness fail and refuses new invocations from now on, in a way
// that lets clients send them to another node. Answers tell the connection to
// close. Open requests go on. There is no way back: a node drains to stop.
func (s *Server) Drain() {
	s.drained.CompareAndSwap(0, time.Now().UnixNano())
	if s.draining.Swap(true) {
		return
	}
	s.log.Info().Msg("refusing new invocations")
	s.beQuiet()
}

// Run serves until ctx ends, then drains: it lingers, waits for open requests up
// to DrainTimeout and closes what is left. It returns nil after an orderly end.
// A server runs once.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Listener == nil {
		return errors.New("run api: Config.Listener is missing")
	}
	if s.served.Swap(true) {
		return errors.New("run api: it has run before")
	}
	defer s.beQuiet()
	srv := s.httpServer()
	listener := newListener(s.cfg.Listener, limits{
		total: s.cfg.MaxConns, perIP: s.cfg.MaxConnsPerIP, write: s.cfg.WriteTimeout, tls: s.cfg.TLS != nil,
	}, s.metrics)
	stopped := make(chan error, 1) // the one result of the goroutine below
	go func() {                    // ends when srv is closed, which every path below does
		if s.cfg.TLS != nil {
			stopped <- srv.ServeTLS(listener, "", "")
			return
		}
		stopped <- srv.Serve(listener)
	}()
	select {
	case err := <-stopped:
		_ = srv.Close()
		return fmt.Errorf("serve api: %w", err)
	case <-ctx.Done():
	}
	s.Drain()
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	s.linger(shutdown, listener)
	listener.closeFresh() // Shutdown would wait five seconds for a first request
	if err := srv.Shutdown(shutdown); err != nil {
		s.log.Warn().Err(err).Msg("closing requests that outlasted the drain")
		_ = srv.Close()
	}
	if err := <-stopped; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve api: %w", err)
	}
	return nil
}

// lingerTime is how long connections without a request are kept once draining
// began. A request may be on its way on each of them; closing it then would leave
// its client not knowing whether the call ran. In this time clients hear "draining"
// and balancers see that the node is not ready, so hardly any request comes later.
const lingerTime = 500 * time.Millisecond

// linger keeps connections for as long as it is patient, unless all go before.
func (s *Server) linger(ctx context.Context, l *listener) {
	left := s.patience - time.Since(time.Unix(0, s.drained.Load()))
	end := time.NewTimer(min(left, s.patience)) // the clock may have been set back
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for l.connections() > 0 {
		select {
		case <-tick.C:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// httpServer sets every limit that net/http has; by default it has none.
func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s,
		TLSConfig:         s.cfg.TLS,
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		// Covers the body too; whoever has read it lifts the deadline, because
		// it would otherwise end a call that runs longer.
		ReadTimeout:    s.cfg.BodyTimeout,
		IdleTimeout:    s.cfg.IdleTimeout,
		MaxHeaderBytes: s.cfg.MaxHeader,
		ErrorLog:       quietLog(s.log),
	}
}

// deadlines is what net/http's own response writers offer. Asserting it costs
// no allocation, which http.NewResponseController does.
type deadlines interface {
	SetReadDeadline(deadline time.Time) error
}

// readUntil moves the deadline for reading the request; zero lifts it.
func readUntil(w http.ResponseWriter, deadline time.Time) {
	if d, ok := w.(deadlines); ok {
		// It fails only on a connection that is gone, as reading will tell.
		_ = d.SetReadDeadline(deadline)
	}
}
