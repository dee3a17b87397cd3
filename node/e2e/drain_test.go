package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// TestDrainAndStopUnderLoadFailNoCall drains a node and then stops and starts each
// in order, as an upgrade would, while functions are called: no call fails, not
// even of a function that may not be repeated, and each runs once. Restarted under
// load, a node hands no call to an instance that is not ready (row R21).
func TestDrainAndStopUnderLoadFailNoCall(t *testing.T) {
	t.Parallel()
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
	drained := c.nodes[1]
	await(t, 20*time.Second, "load runs on "+drained.name, func() error { return l.ranOn(ids[drained], time.Time{}) })

	c.covey("node", "drain", drained.name, "--data-dir", c.nodes[0].dir)
	await(t, 30*time.Second, drained.name+" is empty", func() error {
		nodes, err := c.list(c.nodes[0])
		for _, n := range nodes {
			if n.ID == ids[drained] && (!n.Draining || n.Instances+n.InFlight+n.Queued > 0) {
				return fmt.Errorf("draining %v, %d instances, %d calls", n.Draining, n.Instances, n.InFlight)
			}
		}
		return err
	})
	c.covey("node", "drain", drained.name, "--off", "--data-dir", c.nodes[0].dir)
	back := time.Now()
	await(t, 30*time.Second, drained.name+" is used again", func() error { return l.ranOn(ids[drained], back) })

	for _, n := range c.nodes {
		n.stop()
		n.start()
		back := time.Now()
		await(t, 30*time.Second, n.name+" is used again", func() error { return l.ranOn(ids[n], back) })
		c.awaitWhole(3, 30*time.Second)
	}
	entries := l.finish()
	for _, e := range entries {
		if e.err != nil {
			t.Errorf("%s of %s failed, %s to %s: %v; sent to %v", e.id, e.function,
				e.start.Format(time.StampMilli), e.end.Format(time.StampMilli), e.err, c.sentTo(e.id))
		}
	}
	b.read(c.nodes...)
	b.readLogs(c.client(), "again", "once")
	a := audit{entries: entries, books: b.byRequest(), about: b.about, explain: c.sentTo, idempotent: functions}
	a.check(t)
}
