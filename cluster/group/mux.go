package group

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// PeerPolicy says what a protocol demands of the other end of a connection.
type PeerPolicy uint8

const (
	// MembersOnly demands a client certificate of a node that Identify accepts.
	MembersOnly PeerPolicy = iota
	// AnyPeer demands nothing: the protocol authenticates by itself, as joining does.
	AnyPeer
)

// MuxConfig holds what NewMux needs.
type MuxConfig struct {
	// Listener is the peer port. The Mux closes it.
	Listener net.Listener
	// TLS returns the base configuration: this node's certificate, RootCAs, and a
	// Time if the clock is injected. It is called for each handshake, so that a
	// renewed certificate or CA counts at once; it must not block. The Mux itself
	// sets versions, protocols and verification.
	TLS func() *tls.Config
	// Identify returns the node that a certificate names. The chain was verified
	// before. An error refuses the connection: another cluster, a removed node.
	Identify func(*x509.Certificate) (NodeID, error)
	// Dial opens a TCP connection; nil uses the system's network. Tests cut links
	// with it.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// HandshakeTimeout bounds a handshake from accept to end; 5 s if 0.
	HandshakeTimeout time.Duration
	// Handshakes bounds how many run at once; 128 if 0. More connections wait in
	// the kernel's queue.
	Handshakes int
	// Backlog bounds the finished connections that wait for Accept per protocol; 64
	// if 0. A connection above it is closed.
	Backlog int

	Logger     zerolog.Logger
	Registerer prometheus.Registerer
}

// validate reports every problem and fills in the defaults.
func (c *MuxConfig) validate() error {
	var errs []error
	if c.Listener == nil {
		errs = append(errs, errors.New("field Listener is nil"))
	}
	if c.TLS == nil {
		errs = append(errs, errors.New("field TLS is nil"))
	}
	if c.Identify == nil {
		errs = append(errs, errors.New("field Identify is nil"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("mux config: %w", err)
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, "tcp", addr)
		}
	}
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = 5 * time.Second
	}
	if c.Handshakes <= 0 {
		c.Handshakes = 128
	}
	if c.Backlog <= 0 {
		c.Backlog = 64
	}
	return nil
}

// Mux shares one TCP port between protocols, told apart by the ALPN name of a TLS
// 1.3 handshake. It serves and dials; both ends of every connection are
// authenticated, except for protocols with the policy AnyPeer. Safe for
// concurrent use.
type Mux struct {
	cfg     MuxConfig
	log     zerolog.Logger
	metrics *muxMetrics
	slots   chan struct{} // one token per running handshake
	cancel  context.CancelFunc
	ctx     context.Context // ends with Close; bounds handshakes
	wg      sync.WaitGroup  // the accept loop and its handshakes

	mu        sync.Mutex
	closed    bool
	listeners map[string]*listener
}

// NewMux starts serving the peer port. Close ends it.
func NewMux(cfg MuxConfig) (*Mux, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	metrics, err := newMuxMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mux{
		cfg:       cfg,
		log:       cfg.Logger.With().Str("component", "peer-port").Logger(),
		metrics:   metrics,
		slots:     make(chan struct{}, cfg.Handshakes),
		ctx:       ctx,
		cancel:    cancel,
		listeners: make(map[string]*listener),
	}
	m.listeners[pingProto] = newListener(m, pingProto, MembersOnly)
	m.wg.Go(m.acceptLoop)
	return m, nil
}

// Addr returns the address of the peer port.
func (m *Mux) Addr() net.Addr { return m.cfg.Listener.Addr() }

// Listen returns the listener of a protocol. Its connections implement PeerConn;
// closing the listener closes them too, because the protocols' servers leave
// theirs behind.
func (m *Mux) Listen(proto string, policy PeerPolicy) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("listen for %s: %w", proto, net.ErrClosed)
	}
	if _, ok := m.listeners[proto]; ok {
		return nil, fmt.Errorf("listen for %s: the protocol has a listener", proto)
	}
	l := newListener(m, proto, policy)
	m.listeners[proto] = l
	return l, nil
}

// Close stops serving, closes every listener and its connections, and returns
// when all goroutines of the Mux have ended. Dialled connections stay open.
func (m *Mux) Close() error {
	m.mu.Lock()
	open := make([]*listener, 0, len(m.listeners))
	for _, l := range m.listeners {
		open = append(open, l)
	}
	already := m.closed
	m.closed = true
	m.mu.Unlock()

	m.cancel()
	var err error
	if !already {
		err = m.cfg.Listener.Close()
		m.metrics.unregister()
	}
	for _, l := range open {
		err = errors.Join(err, l.Close())
	}
	m.wg.Wait()
	return err
}

// forget frees the name of a closed listener.
func (m *Mux) forget(l *listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[l.proto] == l {
		delete(m.listeners, l.proto)
	}
}

// acceptLoop ends when the port is closed. Each handshake holds a slot, so a
// flood of connections cannot pile up goroutines.
func (m *Mux) acceptLoop() {
	for {
		select {
		case m.slots <- struct{}{}:
		case <-m.ctx.Done():
			return
		}
		raw, err := m.cfg.Listener.Accept()
		if err != nil {
			<-m.slots
			if m.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: wait instead of spinning.
			m.log.Warn().Err(err).Msg("accept failed")
			select {
			case <-time.After(50 * time.Millisecond):
			case <-m.ctx.Done():
				return
			}
			continue
		}
		m.wg.Go(func() {
			defer func() { <-m.slots }()
			m.serve(raw)
		})
	}
}

// serve does one handshake and hands the connection to its protocol.
func (m *Mux) serve(raw net.Conn) {
	tuneConn(raw)
	var (
		chosen *listener
		peer   NodeID
	)
	server := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if chosen = m.pick(hello.SupportedProtos); chosen == nil {
				return nil, fmt.Errorf("%w: %q", ErrUnknownProtocol, hello.SupportedProtos)
			}
			return m.serverConfig(chosen, &peer), nil
		},
	}
	conn := tls.Server(raw, server)
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.HandshakeTimeout)
	defer cancel()
	start := time.Now()
	if err := conn.HandshakeContext(ctx); err != nil {
		m.metrics.handshakes.WithLabelValues("refused").Inc()
		// Debug: anybody who reaches the port can cause it.
		m.log.Debug().Err(err).Str("peer", raw.RemoteAddr().String()).Msg("handshake refused")
		_ = raw.Close()
		return
	}
	m.metrics.handshakes.WithLabelValues("ok").Inc()
	m.metrics.took.Observe(time.Since(start).Seconds())
	if chosen.proto == pingProto {
		// The byte tells the client that its certificate was accepted: in TLS 1.3 its
		// own handshake ends before.
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte{1})
		_ = conn.Close()
		return
	}
	if !chosen.deliver(newConn(conn, peer)) {
		m.metrics.handshakes.WithLabelValues("dropped").Inc()
		_ = conn.Close()
	}
}

// pick returns the listener of the first offered protocol that has one.
func (m *Mux) pick(offered []string) *listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, proto := range offered {
		if l, ok := m.listeners[proto]; ok {
			return l
		}
	}
	return nil
}

// serverConfig is built per handshake. Tickets are off: a resumed session would
// skip nothing worth having on long-lived connections, and a removed node must
// not come back on an old ticket.
func (m *Mux) serverConfig(l *listener, peer *NodeID) *tls.Config {
	cfg := m.cfg.TLS().Clone()
	cfg.MinVersion = tls.VersionTLS13
	cfg.NextProtos = []string{l.proto}
	cfg.SessionTicketsDisabled = true
	cfg.GetConfigForClient = nil
	cfg.ClientCAs = cfg.RootCAs
	if l.policy == AnyPeer {
		cfg.ClientAuth = tls.NoClientCert
		return cfg
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		id, err := m.cfg.Identify(state.PeerCertificates[0])
		if err != nil {
			return fmt.Errorf("identify client: %w", err)
		}
		*peer = id
		return nil
	}
	return cfg
}

// Dial connects to the peer port at addr for a protocol and checks that the node
// that answers is want; an empty want accepts any node of the cluster. The
// context bounds connecting and handshake.
func (m *Mux) Dial(ctx context.Context, addr, proto string, want NodeID) (PeerConn, error) {
	raw, err := m.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", addr, proto, err)
	}
	tuneConn(raw)
	var peer NodeID
	conn := tls.Client(raw, m.clientConfig(proto, want, &peer))
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake with %s for %s: %w", addr, proto, err)
	}
	return newConn(conn, peer), nil
}

// pingProto is the protocol of Ping, which every Mux serves.
const pingProto = "covey-ping"

// Ping reports whether the node want answers at addr and accepts this node.
func (m *Mux) Ping(ctx context.Context, addr string, want NodeID) error {
	c, err := m.Dial(ctx, addr, pingProto, want)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(deadline)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return fmt.Errorf("ping %s at %s: %w", want, addr, err)
	}
	return nil
}

// clientConfig is built per dial, because it checks for one expected node.
func (m *Mux) clientConfig(proto string, want NodeID, peer *NodeID) *tls.Config {
	cfg := m.cfg.TLS().Clone()
	cfg.MinVersion = tls.VersionTLS13
	cfg.NextProtos = []string{proto}
	// Nodes have no host names that a certificate could hold: addresses change.
	// The chain is checked below instead, and the name in it is the node's id.
	cfg.InsecureSkipVerify = true
	roots, now := cfg.RootCAs, cfg.Time
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if err := verifyChain(state.PeerCertificates, roots, now); err != nil {
			return err
		}
		id, err := m.cfg.Identify(state.PeerCertificates[0])
		if err != nil {
			return fmt.Errorf("identify server: %w", err)
		}
		if want != "" && id != want {
			return fmt.Errorf("%w: %s answered, not %s", ErrWrongPeer, id, want)
		}
		*peer = id
		return nil
	}
	return cfg
}

// verifyChain is what crypto/tls does for a server, without the host name.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, now func() time.Time) error {
	if len(chain) == 0 {
		return errors.New("verify server: no certificate")
	}
	opts := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if roots == nil {
		// A nil pool would mean the system's roots.
		opts.Roots = x509.NewCertPool()
	}
	if now != nil {
		opts.CurrentTime = now()
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return fmt.Errorf("verify server: %w", err)
	}
	return nil
}
