package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/state"
)

// Handler serves a call of another node. It runs on a goroutine of the link; ctx
// ends when the caller cancels or the link breaks; when the call's time is up, the
// handler has to see from call.Deadline. call is invalid once Handler returned,
// its body included. A reply may come with an error too: then its load, steps and
// usage are sent and its body is not. An error that wraps ErrNotStarted tells the
// caller that nothing started.
type Handler func(ctx context.Context, from state.NodeID, call *Call) (*Reply, error)

// Config is what a Link needs. DefaultConfig fills in everything but the
// required fields.
type Config struct {
	// Self is this node. Required.
	Self state.NodeID

	// Dial opens an authenticated connection to a node. It must end with ctx.
	// Required.
	Dial func(ctx context.Context, node state.NodeID) (net.Conn, error)

	// Listener gives the connections of other nodes, authenticated. The link closes
	// it when Run ends. Required.
	Listener net.Listener

	// PeerID tells which node is at the other end of a connection from Listener. It
	// may do the handshake; it must end when the connection is closed. Required.
	PeerID func(conn net.Conn) (state.NodeID, error)

	// Handler serves the calls of other nodes. Required.
	Handler Handler

	// OnState tells that the link to a node came up or broke. Calls for one node
	// come one after another and only on a change. It must not call back into the
	// link for long. May be nil.
	OnState func(node state.NodeID, up bool)

	// Logger receives the changes of links.
	Logger zerolog.Logger

	// Registerer receives the metrics; nil exports none.
	Registerer prometheus.Registerer

	// Conns is the number of connections per node that carry small calls. Default
	// 2: one core's worth of encryption each.
	Conns int

	// Lanes is the number of further connections per node for large bodies. Default
	// 4. With too few, large bodies get in the way of small ones.
	Lanes int

	// LargeBody is the size from which a body takes a lane. Default 32 KiB.
	LargeBody int

	// BodyMax bounds a body that is not streamed. Default 8 MiB: the front's limit
	// and some room.
	BodyMax int

	// InFlightMax bounds the calls open to one node, and from one node per
	// connection. Default 4096; the next call fails with ErrBusy.
	InFlightMax int

	// InboundMax bounds the connections of one node to this one. Default 32; the
	// next is closed.
	InboundMax int

	// ConnectTimeout bounds dial and greeting. Default 5 s.
	ConnectTimeout time.Duration

	// PingEvery is how often a connection with calls open is checked; one without
	// is checked fifteen times less often. Default 1 s.
	PingEvery time.Duration

	// PingTimeout is how long the other node may take to answer before the link is
	// broken, with all its calls. Default 5 s. Too low and a busy machine looks
	// dead.
	PingTimeout time.Duration

	// BackoffMax caps the pause between attempts to reconnect; the first is 50 ms.
	// Default 5 s.
	BackoffMax time.Duration

	// IdleAfter is when connections without calls are closed. Default 10 min.
	IdleAfter time.Duration
}

// DefaultConfig returns the defaults; the required fields are still empty.
func DefaultConfig() Config {
	return Config{
		Logger:         zerolog.Nop(),
		Conns:          2,
		Lanes:          4,
		LargeBody:      32 << 10,
		BodyMax:        8 << 20,
		InFlightMax:    4096,
		InboundMax:     32,
		ConnectTimeout: 5 * time.Second,
		PingEvery:      time.Second,
		PingTimeout:    5 * time.Second,
		BackoffMax:     5 * time.Second,
		IdleAfter:      10 * time.Minute,
	}
}

// Validate reports every field that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Self != "", "Self: empty")
	check(c.Dial != nil, "Dial: missing")
	check(c.Listener != nil, "Listener: missing")
	check(c.PeerID != nil, "PeerID: missing")
	check(c.Handler != nil, "Handler: missing")
	for name, n := range map[string]int{
		"Conns": c.Conns, "Lanes": c.Lanes, "LargeBody": c.LargeBody, "BodyMax": c.BodyMax,
		"InFlightMax": c.InFlightMax, "InboundMax": c.InboundMax,
	} {
		check(n > 0, "%s: %d is not positive", name, n)
	}
	for name, d := range map[string]time.Duration{
		"ConnectTimeout": c.ConnectTimeout, "PingEvery": c.PingEvery, "PingTimeout": c.PingTimeout,
		"BackoffMax": c.BackoffMax, "IdleAfter": c.IdleAfter,
	} {
		check(d > 0, "%s: %v is not positive", name, d)
	}
	return errors.Join(errs...)
}
