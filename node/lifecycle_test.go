package node_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/internal/loopback"
	"github.com/covey-dev/covey/node"
	"github.com/covey-dev/covey/node/nodetest"
)

// config is a node on loopback that founds a cluster.
func config(t *testing.T) node.Config {
	t.Helper()
	cfg := node.DefaultConfig()
	cfg.DataDir, cfg.Name, cfg.Advertise = filepath.Join(t.TempDir(), "data"), "solo", "127.0.0.1"
	cfg.API, cfg.Peer, cfg.Gossip = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Fast, cfg.Init = true, true
	cfg.Logger = nodetest.Logger(t).Level(zerolog.WarnLevel)
	cfg.Exit = func(code int) { t.Errorf("wants to end the process with %d", code) }
	return cfg
}

func TestConfigReportsAllProblemsByField(t *testing.T) {
	t.Parallel()
	cfg := node.Config{Name: "with space", API: "nowhere", Init: true, Join: "token", TLSCert: "cert", Advertise: "host:1", Memory: -1}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"data-dir:", "name:", "api:", "peer:", "gossip:", "advertise:", "init:", "tls-cert:", "drain-timeout:", "memory:", "max-body:"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("nothing about %s in: %v", field, err)
		}
	}
	if cfg := node.DefaultConfig(); cfg.Validate() != nil {
		t.Errorf("the default: %v", cfg.Validate())
	}
}

// TestNodeThatIsClosedBeforeRunLeavesNothing closes a node that was started and
// never run: its ports are free, and its directory can be used again.
func TestNodeThatIsClosedBeforeRunLeavesNothing(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	n, err := node.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	l, err := net.Listen("tcp", n.APIAddr().String())
	if err != nil {
		t.Fatalf("the api port is still bound: %v", err)
	}
	_ = l.Close()
	cfg.Init = false
	again, err := node.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- again.Run(ctx) }() // waited for below
	select {
	case <-again.Cluster().Ready():
	case <-time.After(time.Minute):
		t.Error("no state after 20 s")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("run does not return")
	}
}

// TestRunStopsAtOnceWhenItIsToldBeforeIt runs a node under a context that has ended.
func TestRunStopsAtOnceWhenItIsToldBeforeIt(t *testing.T) {
	t.Parallel()
	n, err := node.Start(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // waited for below
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("run does not return")
	}
}

// TestStartThatFailsLeavesNothing makes each later part of a start fail and then
// starts for good: what an earlier part had opened must be closed.
func TestStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := loopback.Address(t)
	cfg := config(t)
	for name, spoil := range map[string]func(*node.Config){
		"api port taken":   func(c *node.Config) { c.API = taken.Addr().String() },
		"peer port taken":  func(c *node.Config) { c.Peer = taken.Addr().String() },
		"no such cert":     func(c *node.Config) { c.TLSCert, c.TLSKey = "/nonexistent", "/nonexistent" },
		"broken token":     func(c *node.Config) { c.Init, c.Join = false, "K10nonsense" },
		"nothing to go on": func(c *node.Config) { c.Init = false },
	} {
		bad := cfg
		bad.DataDir, bad.API = filepath.Join(t.TempDir(), "data"), free
		spoil(&bad)
		if n, err := node.Start(t.Context(), bad); err == nil {
			t.Errorf("%s: started", name)
			_ = n.Close()
		}
		l, err := net.Listen("tcp", free)
		if err != nil {
			t.Fatalf("%s: the api port stays bound: %v", name, err)
		}
		_ = l.Close()
	}
}

// TestDirectoryHasOneNodeAtATime starts a second node on the directory of one that
// runs, and a cluster in the directory of another.
func TestDirectoryHasOneNodeAtATime(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 1)
	cfg := c.Nodes[0].Config
	cfg.API, cfg.Peer, cfg.Gossip = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	for _, init := range []bool{false, true} {
		cfg.Init = init
		if n, err := node.Start(t.Context(), cfg); err == nil {
			t.Errorf("a second daemon started, init %v", init)
			_ = n.Close()
		}
	}
	c.Nodes[0].Stop()
	cfg.Init = true
	if n, err := node.Start(t.Context(), cfg); err == nil {
		t.Error("a second cluster was founded in the directory")
		_ = n.Close()
	}
	c.Nodes[0].Start() // unharmed
	if token, err := node.ReadAdminToken(cfg.DataDir); err != nil || token != c.Token {
		t.Errorf("the admin token changed: %v", err)
	}
	if _, err := node.ReadAdminToken(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("token of an empty directory: %v", err)
	}
}
