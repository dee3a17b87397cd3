package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/covey-dev/covey/node"
)

// joinTTL is the lifetime of the join token that a founding node prints.
const joinTTL = time.Hour

// daemon is what the flags of `covey start` say, besides the node's own
// configuration.
type daemon struct {
	cfg       node.Config
	memory    bytesValue
	maxBody   bytesValue
	labels    []string
	logLevel  string
	logFormat string
}

// newDaemon starts from the node's defaults, so that help shows them.
func newDaemon() *daemon {
	d := &daemon{cfg: node.DefaultConfig()}
	d.maxBody = bytesValue(d.cfg.MaxBody)
	return d
}

// identityFlags are those that offline commands share with start.
func (d *daemon) identityFlags(f *pflag.FlagSet) {
	f.StringVar(&d.cfg.Name, "name", d.cfg.Name, "what people call the node")
	f.StringVar(&d.cfg.Peer, "peer", d.cfg.Peer, "HOST:PORT that other nodes reach this one at")
	f.StringVar(&d.cfg.Gossip, "gossip", d.cfg.Gossip, "HOST:PORT of gossip, TCP and UDP")
	f.StringVar(&d.cfg.Advertise, "advertise", d.cfg.Advertise, "host that others reach this node at, without a port")
	for _, name := range []string{"name", "peer", "gossip", "advertise"} {
		setting(f, name)
	}
}

// logFlags are for everything that writes a node's log.
func (d *daemon) logFlags(f *pflag.FlagSet) {
	f.StringVar(&d.logLevel, "log-level", "info", "least level of log lines: debug, info, warn or error")
	f.StringVar(&d.logFormat, "log-format", "auto", "log lines as json or for people as text; auto is text on a terminal")
	setting(f, "log-level")
	setting(f, "log-format")
}

// flags are those of `covey start`, but for founding and joining.
func (d *daemon) flags(f *pflag.FlagSet) {
	d.identityFlags(f)
	d.logFlags(f)
	f.StringVar(&d.cfg.API, "api", d.cfg.API, "HOST:PORT of the HTTP API")
	f.StringVar(&d.cfg.TLSCert, "tls-cert", "", "PEM file with the certificate of the API; without one it speaks plain HTTP")
	f.StringVar(&d.cfg.TLSKey, "tls-key", "", "PEM file with the key of the certificate")
	f.DurationVar(&d.cfg.DrainTimeout, "drain-timeout", d.cfg.DrainTimeout, "how long a stopping node waits for open calls")
	f.Var(&d.memory, "memory", "memory for functions on this node (default four fifths of the machine's)")
	f.Var(&d.maxBody, "max-body", "largest request and answer of a call")
	f.StringSliceVar(&d.labels, "label", nil, "label NAME=VALUE for functions that ask for it, may be repeated")
	for _, name := range []string{"api", "tls-cert", "tls-key", "drain-timeout", "memory", "max-body", "label"} {
		setting(f, name)
	}
}

// config completes the node's configuration from the flags.
func (d *daemon) config(a *app) (node.Config, error) {
	cfg := d.cfg
	cfg.DataDir, cfg.Memory, cfg.MaxBody = a.dataDir, int64(d.memory), int64(d.maxBody)
	var err error
	if cfg.Labels, err = pairs("--label", d.labels); err != nil {
		return cfg, err
	}
	level, err := zerolog.ParseLevel(d.logLevel)
	if err != nil {
		return cfg, usagef("--log-level: %w", err)
	}
	var out zerolog.Logger
	switch text := d.logFormat; {
	case text == "json", text == "auto" && !terminal(a.env.Stderr):
		out = zerolog.New(a.env.Stderr)
	case text == "text", text == "auto":
		out = zerolog.New(zerolog.ConsoleWriter{Out: a.env.Stderr, TimeFormat: time.TimeOnly, NoColor: a.noColor()})
	default:
		return cfg, usagef("--log-format %q is none of auto, json and text", text)
	}
	cfg.Logger = out.Level(level).With().Timestamp().Logger()
	cfg.Build, cfg.Program = thisBuild().Version, "/proc/self/exe"
	if err := cfg.Validate(); err != nil {
		return cfg, &usageError{err}
	}
	return cfg, nil
}

// noColor heeds the NO_COLOR convention.
func (a *app) noColor() bool {
	value, set := a.env.LookupEnv("NO_COLOR")
	return set && value != "" || !terminal(a.env.Stderr)
}

// startCommand is `covey start`.
func (a *app) startCommand() *cobra.Command {
	d := newDaemon()
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a node",
		Long: `Start runs a node until it gets SIGINT or SIGTERM, then drains and stops; a second
signal ends it at once.

With --init it founds a cluster, leaves the admin token in admin.token in the data
directory, and prints the command that other machines join with. With --join it
joins one. With neither it goes on with what the data directory holds.

Functions that ask for a label run on nodes that have it (covey deploy --place).
A node started with other labels than before loses the work that no longer fits.`,
		Example: `  covey start --init
  covey start --join TOKEN
  covey start --data-dir /srv/covey --api :8080 --advertise 10.0.0.7
  covey start --label disk=ssd --label zone=a
  COVEY_JOIN=TOKEN covey start --config /etc/covey.yaml`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := d.config(a)
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), cfg)
		},
	}
	d.flags(cmd.Flags())
	cmd.Flags().BoolVar(&d.cfg.Init, "init", false, "found a new cluster")
	cmd.Flags().StringVar(&d.cfg.Join, "join", "", "token to join a cluster with, or @FILE that holds it")
	setting(cmd.Flags(), "join")
	return cmd
}

// run starts a node and works it until ctx ends.
func (a *app) run(ctx context.Context, cfg node.Config) error {
	if path, ok := strings.CutPrefix(cfg.Join, "@"); ok {
		raw, err := os.ReadFile(path)
		if err != nil {
			return usagef("--join: %w", err)
		}
		cfg.Join = strings.TrimSpace(string(raw))
	}
	n, err := node.Start(ctx, cfg)
	if err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	if err := leaveAddress(cfg, n.APIAddr()); err != nil {
		return errors.Join(err, n.Close())
	}
	beside, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() { a.greet(beside, cfg, n) })
	if _, set := a.env.LookupEnv("GOGC"); !set {
		helpers.Go(func() { newHeap().run(beside) })
	}
	err = n.Run(ctx)
	stop() // a node that fails by itself must not wait for its greeting
	helpers.Wait()
	if err != nil {
		return fmt.Errorf("run node: %w", err)
	}
	return nil
}

// leaveAddress writes where the API is into the data directory.
func leaveAddress(cfg node.Config, addr net.Addr) error {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return fmt.Errorf("write %s: %w", addressFile, err)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	text := net.JoinHostPort(host, port)
	if cfg.TLSCert != "" {
		text = "https://" + text
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, addressFile), []byte(text+"\n"), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", addressFile, err)
	}
	return nil
}

// greet tells a person what to do next, once the node can answer.
func (a *app) greet(ctx context.Context, cfg node.Config, n *node.Node) {
	select {
	case <-n.Cluster().Ready():
	case <-ctx.Done():
		return
	}
	a.say("node %s is ready, API on %s", n.Cluster().ID(), n.APIAddr())
	if !cfg.Init || cfg.Fast {
		return // nobody joins a throw-away cluster
	}
	a.say("admin token: %s", filepath.Join(cfg.DataDir, node.AdminTokenFile))
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	token, err := n.Cluster().CreateJoinToken(ctx, joinTTL, 0)
	if err != nil {
		a.say("create a join token later, with: covey token create --kind join (%v)", err)
		return
	}
	fmt.Fprintf(a.env.Stdout, "covey start --join %s\n", token)
}

// devCommand is `covey dev`. Peer and gossip take any free port, so that several
// run side by side.
func (a *app) devCommand() *cobra.Command {
	d := newDaemon()
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a throw-away cluster of one node",
		Long: `Dev runs a cluster of one node on loopback, in a temporary directory that is
deleted at the end. Commands reach it with the variables that it prints.`,
		Example: "  covey dev\n  covey dev --api 127.0.0.1:8080",
		Args:    none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "covey-dev-")
			if err != nil {
				return fmt.Errorf("make data directory: %w", err)
			}
			defer os.RemoveAll(dir)
			a.dataDir = dir
			cfg, err := d.config(a)
			if err != nil {
				return err
			}
			cfg.Init, cfg.Fast = true, true
			a.say("export COVEY_DATA_DIR=%s", dir)
			return a.run(cmd.Context(), cfg)
		},
	}
	d.cfg.API, d.cfg.Peer, d.cfg.Gossip, d.cfg.Advertise = "127.0.0.1:7070", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"
	d.logFlags(cmd.Flags())
	cmd.Flags().StringVar(&d.cfg.API, "api", d.cfg.API, "HOST:PORT of the HTTP API")
	d.logLevel = "warn"
	return cmd
}
