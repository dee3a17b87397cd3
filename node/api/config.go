package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/node/access/sigv4"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// The view types of the management routes, which [Operations] fills in.
type (
	// NodeStatus is what is known of one node.
	NodeStatus = wire.NodeStatus
	// Status is the cluster as this node sees it.
	Status = wire.Status
	// LogQuery selects lines of functions' logs.
	LogQuery = wire.LogQuery
	// LogLine is one line that a function wrote.
	LogLine = wire.LogLine
	// UsageQuery selects usage.
	UsageQuery = wire.UsageQuery
	// UsageReport is metered usage.
	UsageReport = wire.UsageReport
	// TopQuery asks for the traffic of the cluster.
	TopQuery = wire.TopQuery
	// Top is the traffic of one interval.
	Top = wire.Top
	// Check is one part of a node's readiness.
	Check = wire.Check
)

// Control reads and writes the control state.
type Control interface {
	// View returns the newest state applied on this node, without blocking.
	View() *state.View
	// Consistent returns a state at least as new as any write that was
	// acknowledged anywhere before the call; it needs a quorum.
	Consistent(ctx context.Context) (*state.View, error)
	// Propose commits a command, from whichever node.
	Propose(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.Result, error)
}

// Code stores uploaded code.
type Code interface {
	// Put returns once the content is durable on its owners.
	Put(ctx context.Context, r io.Reader) (digest string, size int64, err error)
}

// Invoker runs functions.
type Invoker interface {
	Invoke(ctx context.Context, req *invoke.Request) (*invoke.Response, error)
}

// Operations is what operators ask of a cluster beyond its control state.
type Operations interface {
	// Nodes returns every member, asking the live ones for what only they know.
	Nodes(ctx context.Context) []NodeStatus
	Status(ctx context.Context) Status
	// Warm has instances of a version started where those versions are warm whose calls
	// it is to take over, and tells how far they are without waiting for them.
	Warm(ctx context.Context, version *state.Version, like []state.VersionNumber, in wire.WarmRequest) wire.WarmReport
	// Drain starts or ends the evacuation of a node.
	Drain(ctx context.Context, node state.NodeID, on bool) error
	// Remove burns a node's id.
	Remove(ctx context.Context, node state.NodeID) error
	// Logs yields lines of all nodes in order; with Follow until ctx ends.
	Logs(ctx context.Context, query LogQuery) iter.Seq2[LogLine, error]
	Usage(ctx context.Context, query UsageQuery) (UsageReport, error)
	// Top yields what the cluster did in each interval, as it ends.
	Top(ctx context.Context, query TopQuery) iter.Seq[Top]
	// Explain finds an invocation's record on whichever node it entered, or
	// returns an error that is [invoke.ErrNotFound].
	Explain(ctx context.Context, requestID string) (*invoke.Record, error)
	// JoinToken returns a token for nodes to join with; uses 0 means any number.
	JoinToken(ctx context.Context, ttl time.Duration, uses int) (string, error)
	// Backup writes state and code at one index.
	Backup(ctx context.Context, w io.Writer) error
	// Ready returns the checks of readiness, quickly and without the network.
	Ready(ctx context.Context) []Check
}

// AccessKeys does what needs the secrets of access keys, which the server itself
// never sees but at their making.
type AccessKeys interface {
	// Seal encrypts a new access key's secret for the state.
	Seal(ctx context.Context, id state.TokenID, secret string) ([]byte, error)
	// DayKey returns what signatures of a day (YYYYMMDD) are checked with, or
	// [access.ErrUnknownKey], [access.ErrLostKey] or [access.ErrNoKeeper].
	DayKey(ctx context.Context, key *state.Token, day string) (sigv4.Key, error)
}

// Config wires a [Server]. Start from [DefaultConfig].
type Config struct {
	// Listener accepts the connections; required for Run, which closes it.
	Listener net.Listener
	// TLS makes the front HTTPS; nil serves plain HTTP, which is for loopback or
	// behind a proxy that does TLS.
	TLS *tls.Config

	// Control, Code, Invoker, Operations and AccessKeys do the work. All required.
	Control    Control
	Code       Code
	Invoker    Invoker
	Operations Operations
	AccessKeys AccessKeys

	// MaxBody is the largest body in bytes of an invocation, both ways when the
	// answer must be held whole (Lambda's Invoke). Default 6 MiB, which is
	// Lambda's. Larger bodies are held in memory per call.
	MaxBody int64
	// MaxCode is the largest upload in bytes. Default 256 MiB.
	MaxCode int64
	// MaxHeader is the largest request header in bytes. Default 64 KiB.
	MaxHeader int

	// HeaderTimeout bounds the arrival of a request's header. Default 5 s. Too
	// high lets slow clients hold connections; too low cuts off bad networks.
	HeaderTimeout time.Duration
	// BodyTimeout bounds the arrival of a body, besides a second for each
	// 64 KiB of it. Default 30 s.
	BodyTimeout time.Duration
	// WriteTimeout bounds each write to a client that does not read, besides a
	// second for each 64 KiB. Default 30 s.
	WriteTimeout time.Duration
	// IdleTimeout closes connections between requests. Default 75 s, longer
	// than clients and balancers keep theirs, so that they are the ones to close.
	IdleTimeout time.Duration
	// DrainTimeout bounds how long Run waits for open requests when it ends.
	// Default 30 s.
	DrainTimeout time.Duration

	// MaxConns and MaxConnsPerIP bound open connections; one beyond is answered
	// 503 and closed. Defaults 16,384 and 4,096; 0 means no bound. A balancer in
	// front is one address.
	MaxConns, MaxConnsPerIP int

	// Logger gets transitions and what went wrong inside; payloads never.
	Logger zerolog.Logger
	// Registry gets this package's metrics and is what /metrics serves. Required.
	Registry *prometheus.Registry
	// Clock dates tokens. Default the machine's.
	Clock clock.Clock
}

// DefaultConfig returns a Config with every default and no collaborators.
func DefaultConfig() Config {
	return Config{
		MaxBody:       6 << 20,
		MaxCode:       256 << 20,
		MaxHeader:     64 << 10,
		HeaderTimeout: 5 * time.Second,
		BodyTimeout:   30 * time.Second,
		WriteTimeout:  30 * time.Second,
		IdleTimeout:   75 * time.Second,
		DrainTimeout:  30 * time.Second,
		MaxConns:      16384,
		MaxConnsPerIP: 4096,
		Logger:        zerolog.Nop(),
		Clock:         clock.System{},
	}
}

// Validate reports everything that is wrong, by field name.
func (c *Config) Validate() error {
	var errs []error
	need := func(field string, ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", field, what))
		}
	}
	need("Control", c.Control != nil, "is required")
	need("Code", c.Code != nil, "is required")
	need("Invoker", c.Invoker != nil, "is required")
	need("Operations", c.Operations != nil, "is required")
	need("AccessKeys", c.AccessKeys != nil, "is required")
	need("Registry", c.Registry != nil, "is required")
	need("Clock", c.Clock != nil, "is required")
	need("MaxBody", c.MaxBody > 0, "must be positive")
	need("MaxCode", c.MaxCode > 0, "must be positive")
	need("MaxHeader", c.MaxHeader > 0, "must be positive")
	need("HeaderTimeout", c.HeaderTimeout > 0, "must be positive")
	need("BodyTimeout", c.BodyTimeout > 0, "must be positive")
	need("WriteTimeout", c.WriteTimeout > 0, "must be positive")
	need("IdleTimeout", c.IdleTimeout > 0, "must be positive")
	need("DrainTimeout", c.DrainTimeout > 0, "must be positive")
	need("MaxConns", c.MaxConns >= 0, "must not be negative")
	need("MaxConnsPerIP", c.MaxConnsPerIP >= 0, "must not be negative")
	return errors.Join(errs...)
}
