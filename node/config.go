package node

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/clock"
)

// The ports of a node; see docs/operations.md for what travels over each.
const (
	DefaultAPIPort    = 7070
	DefaultPeerPort   = 7071
	DefaultGossipPort = 7072
)

// Config says how a node is set up. The zero value is not usable: start from
// [DefaultConfig].
type Config struct {
	// DataDir holds the node's identity, its Raft log, code and function logs.
	// One running daemon owns it. Losing it makes the machine a new node.
	DataDir string
	// Name is what people call the node in lists. Default: the host name.
	// It identifies nothing: two nodes may share it.
	Name string

	// Labels are facts about the machine for functions that ask for them, such as
	// disk=ssd. Whoever sets up the node sets them; a change takes a restart.
	Labels map[string]string

	// API, Peer and Gossip are the addresses to listen on, "host:port". An
	// empty host means all interfaces; port 0 lets the system choose.
	API, Peer, Gossip string
	// Advertise is the host that other nodes and clients reach this one at,
	// without a port. Default: the host that is listened on or, when that is
	// all interfaces, the address of the first private interface.
	Advertise string

	// Init founds a new cluster; refused when DataDir already holds a node.
	Init bool
	// Join is a join token; refused when DataDir holds a node of another
	// cluster. A node that has joined needs it no more.
	Join string

	// TLSCert and TLSKey are PEM files for the API. Both or neither; without
	// them the API speaks plain HTTP, which is for loopback or behind a proxy.
	TLSCert, TLSKey string

	// DrainTimeout bounds how long a stopping node waits for the invocations
	// that it runs. Too low fails calls at every restart; too high makes a
	// restart wait for a stuck function.
	DrainTimeout time.Duration
	// Memory is the budget in bytes for instances on this node; 0 means four
	// fifths of the machine's. Too high and the machine swaps or the kernel
	// ends instances; too low and calls queue while memory is free.
	Memory int64
	// MaxBody is the largest request and response body in bytes of a
	// synchronous call.
	MaxBody int64

	// Program is the path of the covey binary, which hosts some runtimes itself and
	// detects the others. Empty leaves the node with the runtime "go" alone.
	Program string
	// Build is the version of the binary, for lists.
	Build string

	// Fast shortens the timings of Raft and gossip for tests and for
	// `covey dev`, where all nodes share one machine. Real networks need the
	// default timings.
	Fast bool

	// Logger gets the node's log. Required.
	Logger zerolog.Logger
	// Registry gets the node's metrics; nil makes one of the node's own.
	Registry *prometheus.Registry
	// Clock is the wall clock; nil means the machine's.
	Clock clock.Clock
	// Exit ends the process with the given code when the disk hangs under a
	// leader (see cluster/group). Nil means os.Exit; tests replace it.
	Exit func(code int)
}

// DefaultConfig returns the configuration that `covey start` begins with.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "node"
	}
	return Config{
		DataDir:      defaultDataDir(),
		Name:         name,
		API:          fmt.Sprintf(":%d", DefaultAPIPort),
		Peer:         fmt.Sprintf(":%d", DefaultPeerPort),
		Gossip:       fmt.Sprintf(":%d", DefaultGossipPort),
		DrainTimeout: 30 * time.Second,
		MaxBody:      6 << 20,
		Logger:       zerolog.Nop(),
		Clock:        clock.System{},
		Exit:         os.Exit,
	}
}

// defaultDataDir is the system's place for root and the user's otherwise.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/covey"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "covey-data"
	}
	return filepath.Join(home, ".local", "share", "covey")
}

// Validate reports everything that is wrong with the configuration at once,
// each problem under its field's name.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.DataDir == "" {
		bad("data-dir", "must name a folder")
	}
	if c.Name == "" || len(c.Name) > 63 || strings.ContainsAny(c.Name, " \t\n/") {
		bad("name", "%q must be 1 to 63 characters without spaces or slashes", c.Name)
	}
	if len(c.Labels) > state.MaxNodeLabels {
		bad("label", "%d labels, at most %d are allowed", len(c.Labels), state.MaxNodeLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		if err := state.CheckNodeLabel(name, c.Labels[name]); err != nil {
			bad("label", "%v", err)
		}
	}
	for _, a := range []struct{ field, addr string }{{"api", c.API}, {"peer", c.Peer}, {"gossip", c.Gossip}} {
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			bad(a.field, "%q is not host:port", a.addr)
		}
	}
	if _, _, err := net.SplitHostPort(c.Advertise); err == nil {
		bad("advertise", "%q must be a host without a port", c.Advertise)
	}
	if c.Init && c.Join != "" {
		bad("init", "cannot be given together with join: a node either founds a cluster or joins one")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls-cert", "must be given together with tls-key")
	}
	if c.DrainTimeout <= 0 {
		bad("drain-timeout", "must be positive")
	}
	if c.Memory < 0 {
		bad("memory", "must not be negative")
	}
	if c.MaxBody <= 0 {
		bad("max-body", "must be positive")
	}
	return errors.Join(errs...)
}
