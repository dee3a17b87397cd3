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
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// newTestMux serves on loopback as a node of the authority's cluster.
func newTestMux(t *testing.T, ca *authority, id NodeID, tune func(*MuxConfig)) *Mux {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := ca.config(t, id)
	cfg := MuxConfig{
		Listener: l, TLS: func() *tls.Config { return base }, Identify: byName,
		Registerer: prometheus.NewRegistry(),
	}
	if tune != nil {
		tune(&cfg)
	}
	m, err := NewMux(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func listen(t *testing.T, m *Mux, proto string, policy PeerPolicy) net.Listener {
	t.Helper()
	l, err := m.Listen(proto, policy)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// dialAnd dials and reads one byte: in TLS 1.3 a client learns only then that the
// server refused its certificate.
func dialAnd(t *testing.T, m *Mux, addr, proto string, want NodeID) (PeerConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := m.Dial(ctx, addr, proto, want)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = io.ReadFull(c, make([]byte, 1))
	return c, err
}

// greet accepts connections and writes the protocol's first letter to each.
func greet(l net.Listener) {
	proto := l.(*listener).proto
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(proto[:1]))
	}
}

func TestMuxTellsProtocolsApart(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := newTestMux(t, ca, "s", nil), newTestMux(t, ca, "c", nil)
	for _, proto := range []string{"alpha", "beta"} {
		go greet(listen(t, server, proto, MembersOnly)) // ends when the mux closes
	}
	for _, proto := range []string{"beta", "alpha"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, server.Addr().String(), proto, "s")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != proto[0] {
			t.Errorf("%s answered %q, %v", proto, b[0], err)
		}
		if c.Peer() != "s" || c.ConnectionState().Version != tls.VersionTLS13 {
			t.Errorf("peer %q over TLS %x", c.Peer(), c.ConnectionState().Version)
		}
	}
	if _, err := dialAnd(t, client, server.Addr().String(), "gamma", "s"); err == nil {
		t.Error("a protocol without a listener was served")
	}
	if _, err := server.Listen("alpha", MembersOnly); err == nil {
		t.Error("two listeners for one protocol")
	}
}

func TestMuxTellsWhoCalls(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := newTestMux(t, ca, "s", nil), newTestMux(t, ca, "caller", nil)
	l := listen(t, server, "p", MembersOnly)
	c, err := client.Dial(t.Context(), server.Addr().String(), "p", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if id, ok := PeerOf(wrapped{got}); !ok || id != "caller" {
		t.Errorf("peer %q, %v", id, ok)
	}
	if _, ok := PeerOf(nil); ok {
		t.Error("no connection has a peer")
	}
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestMuxRefusesStrangers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	removed := errors.New("removed")
	server := newTestMux(t, ca, "s", func(c *MuxConfig) {
		c.Identify = func(cert *x509.Certificate) (NodeID, error) {
			if cert.Subject.CommonName == "removed" {
				return "", removed
			}
			return byName(cert)
		}
	})
	go greet(listen(t, server, "members", MembersOnly))
	go greet(listen(t, server, "join", AnyPeer))
	addr := server.Addr().String()

	t.Run("R1 node of another cluster", func(t *testing.T) {
		if _, err := dialAnd(t, newTestMux(t, newAuthority(t), "c", nil), addr, "members", "s"); err == nil {
			t.Error("connected")
		}
	})
	t.Run("removed node", func(t *testing.T) {
		if _, err := dialAnd(t, newTestMux(t, ca, "removed", nil), addr, "members", "s"); err == nil {
			t.Error("connected")
		}
	})
	t.Run("no certificate", func(t *testing.T) {
		bare := newTestMux(t, ca, "c", func(c *MuxConfig) {
			c.TLS = func() *tls.Config { return &tls.Config{RootCAs: ca.pool} }
		})
		if _, err := dialAnd(t, bare, addr, "members", "s"); err == nil {
			t.Error("connected")
		}
		if _, err := dialAnd(t, bare, addr, "join", "s"); err != nil {
			t.Errorf("joining needs no certificate: %v", err)
		}
	})
	t.Run("member", func(t *testing.T) {
		c := newTestMux(t, ca, "c", nil)
		if _, err := dialAnd(t, c, addr, "members", "s"); err != nil {
			t.Error(err)
		}
		if err := c.Ping(t.Context(), addr, "s"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ping of a removed node", func(t *testing.T) {
		if err := newTestMux(t, ca, "removed", nil).Ping(t.Context(), addr, "s"); err == nil {
			t.Error("answered")
		}
	})
	t.Run("server that refuses itself", func(t *testing.T) {
		c := newTestMux(t, ca, "c", func(c *MuxConfig) {
			c.Identify = func(*x509.Certificate) (NodeID, error) { return "", removed }
		})
		if _, err := dialAnd(t, c, addr, "members", ""); !errors.Is(err, removed) {
			t.Errorf("error %v", err)
		}
	})
}

func TestR11AnotherNodeAtTheAddressIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := newTestMux(t, ca, "new", nil), newTestMux(t, ca, "c", nil)
	go greet(listen(t, server, "p", MembersOnly))
	if _, err := dialAnd(t, client, server.Addr().String(), "p", "old"); !errors.Is(err, ErrWrongPeer) {
		t.Errorf("error %v", err)
	}
}

// pipeListener is a port in memory, for tests in a bubble of fake time. Its queue
// is first in, first out, as the kernel's.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn, 16), done: make(chan struct{})}
}

// dial is a MuxConfig.Dial that ignores the address.
func (l *pipeListener) dial(context.Context, string) (net.Conn, error) {
	client, server := net.Pipe()
	l.conns <- server
	return client, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestMuxBoundsHandshakes: clients that say nothing hold all slots, but only for
// the timeout, and a good client waits for exactly as long.
func TestMuxBoundsHandshakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca, port := newAuthority(t), newPipeListener()
		server := newTestMux(t, ca, "s", func(c *MuxConfig) {
			_ = c.Listener.Close()
			c.Listener, c.HandshakeTimeout, c.Handshakes = port, 2*time.Second, 2
		})
		go greet(listen(t, server, "p", MembersOnly))
		start := time.Now()
		var silent sync.WaitGroup
		for range 2 {
			c, err := port.dial(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			silent.Go(func() {
				defer c.Close()
				if n, err := io.Copy(io.Discard, c); n > 0 || err != nil {
					t.Errorf("a silent client reads %d bytes, %v", n, err)
				}
				if took := time.Since(start); took != 2*time.Second {
					t.Errorf("a silent client is cut off after %v", took)
				}
			})
		}
		client := newTestMux(t, ca, "c", func(c *MuxConfig) {
			_ = c.Listener.Close()
			c.Listener, c.Dial = newPipeListener(), port.dial
		})
		c, err := dialAnd(t, client, "", "p", "s")
		if err != nil {
			t.Fatalf("a good client behind silent ones: %v", err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("a good client is served after %v, want 2s", took)
		}
		silent.Wait()
		_ = c.Close()
	})
}

func TestMuxDropsWhatNobodyAccepts(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server := newTestMux(t, ca, "s", func(c *MuxConfig) { c.Backlog = 1 })
	listen(t, server, "p", MembersOnly)
	client := newTestMux(t, ca, "c", nil)
	var conns []PeerConn
	for range 2 {
		c, err := client.Dial(t.Context(), server.Addr().String(), "p", "s")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	eventually(t, time.Minute, "one of two closed", func() error {
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				return nil
			}
		}
		return errors.New("both open")
	})
}

func TestMuxListenerClosesItsConnections(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := newTestMux(t, ca, "s", nil), newTestMux(t, ca, "c", nil)
	l := listen(t, server, "p", MembersOnly)
	go greet(l)
	c, err := dialAnd(t, client, server.Addr().String(), "p", "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives its listener")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	listen(t, server, "p", MembersOnly) // the name is free again
}

func TestMuxLifeCycle(t *testing.T) {
	t.Parallel()
	if _, err := NewMux(MuxConfig{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
	ca := newAuthority(t)
	reg := prometheus.NewRegistry()
	m := newTestMux(t, ca, "s", func(c *MuxConfig) { c.Registerer = reg })
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if _, err := m.Listen("p", MembersOnly); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after close: %v", err)
	}
	newTestMux(t, ca, "s", func(c *MuxConfig) { c.Registerer = reg }) // metrics are free again
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = NewMux(MuxConfig{
		Listener: l, TLS: func() *tls.Config { return nil }, Identify: byName, Registerer: reg,
	})
	if err == nil {
		t.Error("the same metrics were registered twice")
	}
}

func TestSplitAddrUndoesJoinAddr(t *testing.T) {
	t.Parallel()
	for _, id := range []NodeID{"n", "6f1c", ""} {
		gotID, addr := splitAddr(joinAddr(id, "[::1]:7071"))
		if gotID != id || addr != "[::1]:7071" {
			t.Errorf("got %q %q", gotID, addr)
		}
	}
	if id, addr := splitAddr("host:1"); id != "" || addr != "host:1" {
		t.Errorf("plain address: %q %q", id, addr)
	}
	if s := fmt.Sprint(Observer, Standby, Voter, Role(9)); s != "observer standby voter role(9)" {
		t.Error(s)
	}
}
