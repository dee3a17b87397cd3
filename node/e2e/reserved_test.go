package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
	"github.com/covey-dev/covey/node/nodetest"
)

// stay is how long each execution of the reserved function takes, at least. It is
// below the time after which an execution is ended whose caller is gone.
const stay = 300 * time.Millisecond

// TestReservedIsNeverExceeded calls a function from all sides, far more often than its
// reserved concurrency allows, while versions are deployed, a node is drained and comes
// back, and the leader is killed and comes back. Each execution says when it began, and
// took as long as it was told to: never do more overlap than are reserved.
func TestReservedIsNeverExceeded(t *testing.T) {
	t.Parallel()
	const reserved = 4
	c := newCluster(t, 3)
	spec := wire.FunctionSpec{Reserved: reserved, TimeoutMS: 3000, Queue: new(uint32), Concurrency: 2}
	c.deploy("till", spec)
	c.awaitWhole(3, formTime)
	b := openBooks(t, c.nodes...)
	l := startLoadOf(c, c.once(), ledger.Order{Op: ledger.OpStay, HoldMS: stay.Milliseconds()}, 12, "till")
	defer l.finish()
	ids := map[*node]string{}
	for _, n := range c.nodes {
		ids[n] = c.id(n)
		await(t, 30*time.Second, "load runs on "+n.name, func() error { return l.ranOn(ids[n], time.Time{}) })
	}

	c.deploy("till", spec) // both versions run for a moment
	deployed := time.Now()
	await(t, 30*time.Second, "the new version runs", func() error { return l.ranOn("", deployed) })

	drained := c.nodes[1]
	c.covey("node", "drain", drained.name, "--data-dir", c.nodes[0].dir)
	await(t, time.Minute, "the share of "+drained.name+" is with the others", func() error { return c.sharesOn(reserved, ids, drained) })
	c.covey("node", "drain", drained.name, "--off", "--data-dir", c.nodes[0].dir)
	await(t, time.Minute, drained.name+" has a share again", func() error { return c.sharesOn(reserved, ids) })

	victim := c.leader()
	k := killing{node: victim, id: ids[victim], begun: time.Now()}
	b.killKeeping(victim)
	k.end = time.Now()
	await(t, 2*time.Minute, "the share of "+victim.name+" is with the others", func() error { return c.sharesOn(reserved, ids, victim) })
	victim.start()
	await(t, 2*time.Minute, victim.name+" has a share again", func() error { return c.sharesOn(reserved, ids) })
	back := time.Now()
	await(t, time.Minute, victim.name+" is used again", func() error { return l.ranOn(ids[victim], back) })

	entries := l.finish()
	b.read(c.nodes...)
	b.readLogs(c.client(), "till")
	most, refused := b.overlap(k), 0
	for _, e := range entries {
		p := problem(e.err)
		switch {
		case e.err == nil:
		case p != nil && p.Status == http.StatusTooManyRequests:
			refused++
			if p.RetryAfter <= 0 {
				t.Fatalf("a refusal does not say when to come again: %v", e.err)
			}
		case e.end.Before(k.begun) || e.start.After(back):
			t.Errorf("%s failed, and no node was missing: %v", e.id, e.err)
		}
	}
	t.Logf("%d calls, %d refused, at most %d at once", len(entries), refused, most)
	if most > reserved {
		t.Errorf("%d executions at once, reserved are %d", most, reserved)
	}
	if refused == 0 {
		t.Error("no call was refused: the load was too small to show anything")
	}
}

// sharesOn reports an error unless all that is reserved is in the shares of the nodes,
// but for some that have none.
func (c *cluster) sharesOn(reserved int, ids map[*node]string, without ...*node) error {
	up := c.others(without...)
	f, err := c.client(up...).Function(c.t.Context(), "default", "till")
	if err != nil {
		return err
	}
	sum := 0
	for _, s := range f.Shares {
		sum += s.Share
		if s.Withheld > 0 || slices.ContainsFunc(without, func(n *node) bool { return ids[n] == s.Node }) {
			return fmt.Errorf("shares are %+v", f.Shares)
		}
	}
	if sum != reserved || len(f.Shares) != len(up) {
		return fmt.Errorf("shares are %+v", f.Shares)
	}
	return nil
}

// overlap returns how many executions ran at once, at most. Each is counted for the
// time that it certainly took: from when it said that it began for as long as it was
// told to stay, or until its node was about to be killed.
func (b *books) overlap(kills ...killing) (most int) {
	type moment struct {
		at    time.Time
		delta int
	}
	var moments []moment
	b.mu.Lock()
	for _, e := range b.executions {
		end := e.Began.Add(stay)
		for _, k := range kills {
			if e.Node == k.id && e.Began.Before(k.begun) && end.After(k.begun) {
				end = k.begun
			}
		}
		moments = append(moments, moment{e.Began, 1}, moment{end, -1})
	}
	b.mu.Unlock()
	if len(moments) == 0 {
		b.t.Error("nothing ran")
	}
	slices.SortFunc(moments, func(x, y moment) int {
		if c := x.at.Compare(y.at); c != 0 {
			return c
		}
		return x.delta - y.delta
	})
	now := 0
	for _, m := range moments {
		now += m.delta
		most = max(most, now)
	}
	return most
}

// TestReservedFailsClosedWithoutALeader takes two of three nodes away: the last one goes
// on for a while, and then begins no call of a function with reserved concurrency until
// the others are back. Other functions do not notice.
func TestReservedFailsClosedWithoutALeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.deploy("till", wire.FunctionSpec{Reserved: 9, TimeoutMS: 3000})
	free := c.deploy("free", wire.FunctionSpec{TimeoutMS: 3000})
	c.awaitWhole(3, formTime)
	last := c.nodes[2]
	var dirs []string
	for _, n := range c.nodes {
		dirs = append(dirs, n.dir)
	}
	nodetest.AwaitCode(t, free, dirs...)
	cl := c.once(last)
	note := ledger.Order{Op: ledger.OpNote}
	mustCall(t, cl, "till", note, nil)
	mustCall(t, cl, "free", note, nil)

	for _, n := range c.nodes[:2] {
		n.kill()
	}
	refusal := func(words string) error {
		_, err := call(t.Context(), cl, "till", note, nil)
		if p := problem(err); p == nil || p.Status != http.StatusTooManyRequests || !strings.Contains(p.Detail, words) {
			return fmt.Errorf("a call got %w", cmp.Or(err, errors.New("an answer")))
		}
		return nil
	}
	await(t, time.Minute, "calls are refused", func() error { return refusal("leader") })
	for range 50 { // nobody can lead any more
		if err := refusal(""); err != nil {
			t.Fatal(err)
		}
		mustCall(t, c.client(last), "free", note, nil)
	}
	for _, n := range c.nodes[:2] {
		n.start()
	}
	await(t, time.Minute, "calls are let in again", func() error {
		_, err := call(t.Context(), cl, "till", note, nil)
		return err
	})
}
