package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// TestEveryCallIsAccountedForWhileNodesAreKilled kills each node in turn, the
// leader included, while functions are called through a client that knows all
// nodes. Of an idempotent function every call succeeds. Of another one only
// calls may fail whose entry or executing node was killed while they were open,
// and none runs twice. The killed node comes back with its id and is used again.
func TestEveryCallIsAccountedForWhileNodesAreKilled(t *testing.T) {
	t.Parallel()
	rounds := 1
	if soak() {
		rounds = 20
	}
	c := newCluster(t, 3)
	functions := map[string]bool{"again": true, "once": false}
	for name, idempotent := range functions {
		c.deploy(name, wire.FunctionSpec{Idempotent: idempotent, TimeoutMS: 10_000})
	}
	c.awaitWhole(3, formTime)
	ids := map[*node]string{}
	for _, n := range c.nodes {
		ids[n] = c.id(n)
	}
	b := openBooks(t, c.nodes...)
	l := startLoad(c, 6, "again", "once")
	defer l.finish()
	for _, n := range c.nodes { // the load has reached every node
		await(t, 20*time.Second, "load runs on "+n.name, func() error { return l.ranOn(ids[n], time.Time{}) })
	}
	var kills []killing
	for range rounds {
		order := slices.Clone(c.nodes)
		leader := c.leader()
		slices.SortStableFunc(order, func(a, b *node) int { // the leader first: its death is the hardest
			switch leader {
			case a:
				return -1
			case b:
				return 1
			}
			return 0
		})
		for _, victim := range order {
			k := killing{node: victim, id: ids[victim], begun: time.Now()}
			b.killKeeping(victim)
			k.end = time.Now()
			kills = append(kills, k)
			took := controlWritesReturn(t, c, k.end)
			victim.start()
			back := time.Now()
			if id := freshID(t, c, victim); id != ids[victim] {
				t.Fatalf("%s came back as %s, was %s", victim.name, id, ids[victim])
			}
			await(t, 30*time.Second, victim.name+" is used again", func() error { return l.ranOn(ids[victim], back) })
			t.Logf("%s killed: writes after %v, used again %v after its start", victim.name,
				took.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
			c.awaitWhole(3, 30*time.Second)
		}
	}
	entries := l.finish()
	b.read(c.nodes...)
	b.readLogs(c.client(), "again", "once")
	a := audit{entries: entries, books: b.byRequest(), about: b.about, kills: kills, explain: c.sentTo, idempotent: functions}
	a.check(t)
}

// controlWritesReturn waits until the nodes that live take a write.
func controlWritesReturn(t *testing.T, c *cluster, since time.Time) time.Duration {
	t.Helper()
	cl := c.once(c.up()...)
	await(t, 20*time.Second, "control writes return", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := cl.PutAlias(ctx, "default", "once", "probe", wire.AliasChange{Version: 1}, 0)
		return err
	})
	return time.Since(since)
}

// freshID asks a node that was started again who it is.
func freshID(t *testing.T, c *cluster, n *node) (id string) {
	t.Helper()
	await(t, 15*time.Second, "id of "+n.name, func() error {
		s, err := c.status(n)
		if err == nil {
			id = s.Node
		}
		return err
	})
	return id
}
