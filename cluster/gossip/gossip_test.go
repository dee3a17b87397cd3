package gossip

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is one gossip instance under test with what it was told.
type member struct {
	*Gossip
	cfg  Config
	stop func()

	mu    sync.Mutex
	known map[state.NodeID]string
	gone  map[state.NodeID]bool
	warm  map[warmKey]bool
}

func fast() Timings {
	return Timings{
		Probe: 100 * time.Millisecond, ProbeTimeout: 80 * time.Millisecond, Gossip: 20 * time.Millisecond,
		PushPull: 300 * time.Millisecond, Rejoin: 300 * time.Millisecond, TCP: time.Second,
	}
}

// start runs a gossip instance; boot 1, cluster "c" and a fixed key unless tuned.
func start(t *testing.T, id state.NodeID, tune ...func(*Config)) *member {
	t.Helper()
	m := &member{known: map[state.NodeID]string{}, gone: map[state.NodeID]bool{}, warm: map[warmKey]bool{}}
	m.cfg = Config{
		ID: id, Boot: 1, Cluster: "c", Key: make([]byte, 32), Bind: "127.0.0.1:0",
		Meta: &clusterpb.GossipMeta{Name: string(id), PeerAddress: "peer-of-" + string(id)},
		Admit: func(n state.NodeID) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.gone[n] {
				return errors.New("removed")
			}
			return nil
		},
		Known: func() map[state.NodeID][]string {
			m.mu.Lock()
			defer m.mu.Unlock()
			known := map[state.NodeID][]string{}
			for k, v := range m.known {
				known[k] = []string{v}
			}
			return known
		},
		OnWarm: func(n state.NodeID, f uint64, w bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.warm[warmKey{n, f}] = w
		},
		Timings: fast(), Logger: zerolog.Nop(),
	}
	if os.Getenv("COVEY_TEST_LOG") != "" {
		m.cfg.Logger = zerolog.New(os.Stderr).With().Str("node", string(id)).Logger()
	}
	for _, f := range tune {
		f(&m.cfg)
	}
	m.run(t)
	return m
}

func (m *member) run(t *testing.T) {
	t.Helper()
	g, err := New(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Gossip = g
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			if err := g.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			wg.Wait()
		})
	}
	t.Cleanup(m.stop)
}

func (m *member) learn(id state.NodeID, address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[id] = address
}

func (m *member) isWarm(id state.NodeID, f uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.warm[warmKey{id, f}]
}

func (m *member) sees(id state.NodeID, alive bool) error {
	p, ok := m.Peer(id)
	if !ok || p.Alive != alive {
		return fmt.Errorf("%s sees %s as %+v, want alive=%v", m.cfg.ID, id, p, alive)
	}
	return nil
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestNodesFindEachOtherAndNoticeDeath(t *testing.T) {
	t.Parallel()
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	b.learn("a", a.Address())
	c.learn("a", a.Address())
	eventually(t, "find each other", func() error {
		return errors.Join(a.sees("b", true), b.sees("c", true), c.sees("b", true))
	})
	if p, _ := c.Peer("b"); p.Meta.GetPeerAddress() != "peer-of-b" || p.Address != b.Address() {
		t.Errorf("c knows of b %+v", p)
	}
	b.SetMeta(&clusterpb.GossipMeta{Name: "b", Draining: true})
	eventually(t, "pass new metadata on", func() error {
		if p, _ := a.Peer("b"); !p.Meta.GetDraining() {
			return errors.New("a does not know that b drains")
		}
		return nil
	})
	b.stop()
	eventually(t, "notice the death", func() error {
		return errors.Join(a.sees("b", false), c.sees("b", false))
	})
	if err := c.Leave(time.Second); err != nil {
		t.Errorf("leave: %v", err)
	}
	eventually(t, "notice the goodbye", func() error { return a.sees("c", false) })
}

// TestR14HighestBootWins: a node that was killed comes back on another address
// while its old name is still alive or suspect.
func TestR14HighestBootWins(t *testing.T) {
	t.Parallel()
	a := start(t, "a")
	b := start(t, "b", func(c *Config) { c.Timings.Probe = time.Minute })
	b.learn("a", a.Address())
	eventually(t, "find each other", func() error { return errors.Join(a.sees("b", true), b.sees("a", true)) })
	// The second boot starts while the first is up: the worst case for a name.
	again := start(t, "b", func(c *Config) { c.Boot = 2 })
	again.learn("a", a.Address())
	eventually(t, "see the second boot", func() error {
		if p, _ := a.Peer("b"); p.Boot != 2 || !p.Alive || p.Address != again.Address() {
			return fmt.Errorf("a sees %+v", p)
		}
		return nil
	})
	b.stop()
	// The death of the first boot is old news.
	eventually(t, "hear of the first boot's death", func() error {
		for _, n := range a.list.Members() {
			if n.Name == nodeName("b", 1) {
				return errors.New("first boot still listed")
			}
		}
		return nil
	})
	if err := a.sees("b", true); err != nil {
		t.Error(err)
	}
}

// TestR15IslandsMerge: two halves that started without knowing each other find
// together once the state names their addresses.
func TestR15IslandsMerge(t *testing.T) {
	t.Parallel()
	a, b, c, d := start(t, "a"), start(t, "b"), start(t, "c"), start(t, "d")
	b.learn("a", a.Address())
	d.learn("c", c.Address())
	// Stale seeds: nobody answers there any more.
	a.learn("c", "127.0.0.1:1")
	c.learn("a", "127.0.0.1:1")
	eventually(t, "form islands", func() error { return errors.Join(a.sees("b", true), c.sees("d", true)) })
	d.learn("a", a.Address())
	eventually(t, "merge", func() error {
		return errors.Join(a.sees("d", true), b.sees("c", true), c.sees("b", true), d.sees("a", true))
	})
}

// TestR15ClustersNeverMerge: neither another cluster's id nor another key gets
// through, even at a known address.
func TestR15ClustersNeverMerge(t *testing.T) {
	t.Parallel()
	a := start(t, "a")
	label := start(t, "b", func(c *Config) { c.Cluster = "other" })
	key := start(t, "c", func(c *Config) { c.Key = append(make([]byte, 31), 1) })
	friend := start(t, "d")
	for _, m := range []*member{label, key, friend} {
		m.learn("a", a.Address())
	}
	a.learn("b", label.Address())
	a.learn("c", key.Address())
	eventually(t, "see the friend", func() error { return a.sees("d", true) })
	for _, id := range []state.NodeID{"b", "c"} {
		if _, ok := a.Peer(id); ok {
			t.Errorf("a knows %s of another cluster", id)
		}
	}
	if len(label.Peers()) != 0 || len(key.Peers()) != 0 {
		t.Errorf("strangers know %v and %v", label.Peers(), key.Peers())
	}
}

func TestRemovedNodesAreForgotten(t *testing.T) {
	t.Parallel()
	a, b := start(t, "a"), start(t, "b")
	b.learn("a", a.Address())
	b.AnnounceWarm(7, true)
	eventually(t, "hear of b", func() error {
		if !a.isWarm("b", 7) {
			return errors.New("7 is not warm on b")
		}
		return a.sees("b", true)
	})
	a.mu.Lock()
	a.gone["b"] = true
	a.mu.Unlock()
	eventually(t, "forget b", func() error {
		if _, ok := a.Peer("b"); ok || a.isWarm("b", 7) {
			return errors.New("b is still known")
		}
		return nil
	})
}

func TestWarmSetsSpread(t *testing.T) {
	t.Parallel()
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	b.learn("a", a.Address())
	c.learn("b", b.Address())
	a.AnnounceWarm(1, true)
	a.AnnounceWarm(2, true)
	eventually(t, "learn what is warm", func() error {
		if !c.isWarm("a", 1) || !c.isWarm("a", 2) || !b.isWarm("a", 1) {
			return errors.New("1 and 2 are not known to be warm on a")
		}
		return nil
	})
	a.AnnounceWarm(1, false)
	eventually(t, "learn what is cold", func() error {
		if c.isWarm("a", 1) || b.isWarm("a", 1) {
			return errors.New("1 is still thought to be warm")
		}
		return nil
	})
	// A node that comes late learns everything from whomever it calls.
	late := start(t, "d")
	late.learn("c", c.Address())
	eventually(t, "learn late", func() error {
		if !late.isWarm("a", 2) || late.isWarm("a", 1) {
			return errors.New("late node does not know what is warm")
		}
		return nil
	})
}

func TestLifeCycleInAnyOrder(t *testing.T) {
	t.Parallel()
	cfg := start(t, "a").cfg
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // Close before Run, and twice.
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	cfg.Key = []byte("short")
	cfg.Bind = "nonsense"
	if _, err := New(cfg); err == nil {
		t.Error("bad configuration accepted")
	}
	cfg.Key, cfg.Bind = make([]byte, 32), g.Address()
	cfg.Advertise = "0.0.0.0:1"
	if _, err := New(cfg); err == nil {
		t.Error("unspecified advertised address accepted")
	}
	cfg.Advertise = ""
	again, err := New(cfg) // The failure above freed the port.
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// fuzzGossip is a gossip without a network.
func fuzzGossip() *Gossip {
	g := &Gossip{
		cfg:  Config{ID: "self", Admit: func(state.NodeID) error { return nil }},
		warm: newWarmSets("self", 1), signal: make(chan struct{}, 1), peers: map[state.NodeID]Peer{},
	}
	g.queue = newQueue(g.alive)
	return g
}
