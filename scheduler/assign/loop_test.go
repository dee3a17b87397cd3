package assign

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// fakeCluster is a control plane of one replica.
type fakeCluster struct {
	mu       sync.Mutex
	scenario *scenario
	changed  chan struct{}
	// err fails proposals while it is set; before runs ahead of each one.
	err       error
	before    func()
	proposals int
	contacts  map[state.NodeID]time.Time
}

func newFakeCluster(t *testing.T, nodes ...string) *fakeCluster {
	c := &fakeCluster{scenario: newScenario(), changed: make(chan struct{}), contacts: map[state.NodeID]time.Time{}}
	for _, n := range nodes {
		if err := c.scenario.node(n, "amd64", "go"); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *fakeCluster) View() *state.View { return c.scenario.store.View() }

func (c *fakeCluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *fakeCluster) Propose(_ context.Context, cmd *clusterpb.Command) (*clusterpb.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proposals++
	if c.err != nil {
		return nil, c.err
	}
	if c.before != nil {
		c.before()
	}
	res, err := c.scenario.do(cmd)
	c.announceLocked()
	return res, err
}

func (c *fakeCluster) announceLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// change runs a step as another client of the cluster would.
func (c *fakeCluster) change(t *testing.T, step func() error) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := step(); err != nil {
		t.Fatal(err)
	}
	c.announceLocked()
}

func (c *fakeCluster) heard(at time.Time, nodes ...state.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range nodes {
		c.contacts[n] = at
	}
}

func (c *fakeCluster) contact() map[state.NodeID]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[state.NodeID]time.Time, len(c.contacts))
	for k, v := range c.contacts {
		m[k] = v
	}
	return m
}

func (c *fakeCluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proposals
}

func (c *fakeCluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// lead runs a loop on n1 until the returned function is called.
func lead(t *testing.T, c *fakeCluster) (stop func()) {
	t.Helper()
	l, err := New(Config{Cluster: c, Self: "n1", Contacts: c.contact, Logger: zerolog.New(zerolog.NewTestWriter(t))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// shares is the text of f's assignment.
func (c *fakeCluster) shares() string {
	a := c.View().Assignment(state.VersionKey{App: "shop", Function: "f", Number: 1})
	if a == nil {
		return "none"
	}
	return strings.TrimSpace(describe(Change{Version: a.Version, Put: a}))
}

func expect(t *testing.T, c *fakeCluster, want string) {
	t.Helper()
	if got := c.shares(); got != want {
		t.Fatalf("shares are %q, want %q", got, want)
	}
}

func TestLoopPlansAfterADeployAndThenIsQuiet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1")
		defer lead(t, c)()
		c.change(t, func() error { return c.scenario.deploy("f", "", 0, 5, 2) })
		time.Sleep(settle + time.Millisecond)
		synctest.Wait()
		expect(t, c, "shop/f:1: everywhere n1(max 0 queue 5 warm 2)")
		time.Sleep(time.Hour)
		if c.count() != 1 {
			t.Fatalf("%d proposals for one change", c.count())
		}
	})
}

// R13: shares move when the leader itself has not heard from a node for 15 s,
// counted from the beginning of its leadership at the earliest.
func TestR13LoopMovesSharesAfterSilenceOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1", "n2")
		if err := c.scenario.deploy("f", "", 4, 8, 0); err != nil {
			t.Fatal(err)
		}
		both := "shop/f:1: n1(max 2 queue 4 warm 0) n2(max 2 queue 4 warm 0)"
		alone := "shop/f:1: n1(max 4 queue 8 warm 0)"
		stop := lead(t, c)
		time.Sleep(10 * time.Second)
		c.heard(time.Now(), "n2")
		time.Sleep(SilentAfter - time.Second)
		synctest.Wait()
		expect(t, c, both)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		expect(t, c, alone)
		c.heard(time.Now(), "n2")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		expect(t, c, both)
		stop()

		time.Sleep(time.Hour)
		stop = lead(t, c)
		time.Sleep(SilentAfter - time.Second)
		synctest.Wait()
		expect(t, c, both)
		stop()
	})
}

func TestLoopTriesAgainAfterFailedProposals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1")
		if err := c.scenario.deploy("f", "", 0, 5, 2); err != nil {
			t.Fatal(err)
		}
		c.fail(errors.New("no quorum"))
		defer lead(t, c)()
		time.Sleep(10 * time.Minute)
		// Capped at 10 s and at least half of that: 60 to 120, and the first few.
		if n := c.count(); n < 55 || n > 140 {
			t.Fatalf("%d proposals in ten minutes without a quorum", n)
		}
		c.fail(nil)
		time.Sleep(backoffMax)
		synctest.Wait()
		expect(t, c, "shop/f:1: everywhere n1(max 0 queue 5 warm 2)")
	})
}

func TestLoopPlansAgainWhenTheStateMovedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1", "n2")
		if err := c.scenario.deploy("f", "", 0, 5, 2); err != nil {
			t.Fatal(err)
		}
		c.before = func() {
			if err := c.scenario.drain("n2", true); err != nil {
				t.Error(err)
			}
			c.before = nil
		}
		defer lead(t, c)()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		expect(t, c, "shop/f:1: everywhere n1(max 0 queue 5 warm 2)")
		if c.count() != 2 {
			t.Fatalf("%d proposals, want the outdated one and its successor", c.count())
		}
	})
}

func TestLoopEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1")
		l, err := New(Config{Cluster: c, Self: "n1", Contacts: c.contact, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l.Run(ctx) // Ended before it began.
		if c.count() != 0 {
			t.Fatal("an ended loop proposed")
		}
		// While it backs off.
		if err := c.scenario.deploy("f", "", 0, 5, 2); err != nil {
			t.Fatal(err)
		}
		c.fail(errors.New("no quorum"))
		stop := lead(t, c)
		time.Sleep(time.Minute)
		stop()
	})
}

func TestConfigReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := New(Config{})
	for _, field := range []string{"Cluster", "Self", "Contacts"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("the error is %v, want one that names %s", err, field)
		}
	}
	reg := prometheus.NewRegistry()
	cfg := Config{Cluster: newFakeCluster(t), Self: "n1", Contacts: func() map[state.NodeID]time.Time { return nil }, Registerer: reg}
	if _, err := New(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "register") {
		t.Errorf("a second loop on one registry returned %v", err)
	}
}
