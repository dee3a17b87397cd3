package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// bindAttempts bounds the search for a port that is free for TCP and UDP both.
const bindAttempts = 10

// transport is memberlist's own, with calls that end when the node does:
// memberlist has no context, and a call to a silent address would hold up the
// shutdown.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listenNet binds host:port, or a free port if port is 0.
func listenNet(ctx context.Context, host string, port int, logger *log.Logger) (memberlist.NodeAwareTransport, int, error) {
	config := &memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: logger}
	var err error
	for range bindAttempts {
		var inner *memberlist.NetTransport
		if inner, err = memberlist.NewNetTransport(config); err == nil {
			return &transport{NetTransport: inner, ctx: ctx}, inner.GetAutoBindPort(), nil
		}
		if port != 0 {
			break
		}
	}
	return nil, 0, fmt.Errorf("bind gossip port: %w", err)
}

// DialTimeout connects to a peer's address. The connection ends with the node, too:
// memberlist would go on waiting for the other end's answer.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(t.ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(t.ctx, func() { _ = conn.Close() })
	return &endingConn{Conn: conn, stop: stop}, nil
}

// endingConn is a connection that a context may close.
type endingConn struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (c *endingConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// DialAddressTimeout connects to a peer.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}
