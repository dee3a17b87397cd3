package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// entry is one call of the load: what its caller knows.
type entry struct {
	id, function string
	start, end   time.Time
	err          error
	reply        *client.Reply
}

// execution is the one that the function answered from, empty without an answer.
func (e *entry) execution() (x ledger.Execution) {
	_ = json.Unmarshal([]byte(e.answer()), &x)
	return x
}

func (e *entry) answer() string {
	if e.reply == nil {
		return ""
	}
	return string(e.reply.Body)
}

// ranAs tells whether the execution that was answered is among those in the books.
func (e *entry) ranAs(ran []ledger.Execution) bool {
	name := e.execution().Name()
	return slices.ContainsFunc(ran, func(x ledger.Execution) bool { return x.Name() == name })
}

// load calls functions steadily until it is stopped.
type load struct {
	c    *cluster
	stop context.CancelFunc
	done sync.WaitGroup
	// order is what every call asks for.
	order ledger.Order

	mu      sync.Mutex
	entries []entry // guarded by mu
}

// startLoad starts callers of each function, through one client that knows all
// nodes. Every call holds its instance for a moment, so that a kill finds some open.
func startLoad(c *cluster, callers int, functions ...string) *load {
	return startLoadOf(c, c.client(), ledger.Order{Op: ledger.OpNote, HoldMS: 40}, callers, functions...)
}

// startLoadOf is startLoad with an order and a client of its own.
func startLoadOf(c *cluster, cl *client.Client, order ledger.Order, callers int, functions ...string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{c: c, stop: cancel, order: order}
	for _, f := range functions {
		for range callers {
			l.done.Go(func() {
				for ctx.Err() == nil {
					if l.one(cl, f) != nil {
						pace(ctx) // refusals are quick: thousands a second would show no more
					}
				}
			})
		}
	}
	return l
}

// pace waits a moment, or for the end of the load.
func pace(ctx context.Context) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}

func (l *load) one(cl *client.Client, function string) error {
	e := entry{id: ulid.Make().String(), function: function, start: time.Now()}
	// Beyond this a call counts as failed; it is not cut short by the test's end.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	body, _ := json.Marshal(l.order)
	e.reply, e.err = cl.Invoke(ctx, &client.Call{Function: function, Body: body, RequestID: e.id})
	e.end = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return e.err
}

// finish ends the load and waits for the calls that are open.
func (l *load) finish() []entry {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries
}

// ranOn tells whether a call that began after a moment ran on a node; an empty
// id means any node.
func (l *load) ranOn(id string, after time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.err == nil && (id == "" || e.reply.Node == id) && e.start.After(after) {
			return nil
		}
	}
	return fmt.Errorf("no call ran on %s since %s", id, after.Format(time.TimeOnly))
}

// killing is one kill -9, from before the signal to when the process was gone.
type killing struct {
	node       *node
	id         string
	begun, end time.Time
}

// audit compares what callers were told with what ran.
type audit struct {
	entries []entry
	books   map[string][]ledger.Execution
	// about says what is known of an instance.
	about func(instance string) string
	kills []killing
	// explain tells which nodes a call was sent to, as its entry node knows.
	explain func(id string) []string
	// idempotent are the functions that declare themselves so.
	idempotent map[string]bool
}

// check fails the test for every call that has not what it was promised.
func (a *audit) check(t *testing.T) {
	t.Helper()
	found := a.problems()
	for _, p := range found[:min(len(found), 20)] {
		t.Error(p)
	}
	if len(found) > 20 {
		t.Errorf("and %d problems more", len(found)-20)
	}
	failed := map[string]int{}
	for _, e := range a.entries {
		if e.err != nil {
			failed[e.function]++
		}
	}
	t.Logf("%d calls, failed: %v, executions of %d ids, %d kills", len(a.entries), failed, len(a.books), len(a.kills))
}

func (a *audit) problems() []string {
	var found []string
	problem := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	known := map[string]bool{}
	for _, e := range a.entries {
		known[e.id] = true
		ran := a.books[e.id]
		switch {
		case e.err == nil && !e.ranAs(ran):
			problem("%s of %s succeeded, %s to %s, and is not in the books: ran %+v; its answer: %s; %s", e.id, e.function,
				e.start.Format(time.StampMilli), e.end.Format(time.StampMilli), ran, e.answer(), a.about(e.execution().Instance))
		case a.idempotent[e.function] && e.err != nil:
			problem("%s of idempotent %s failed: %v; ran %+v", e.id, e.function, e.err, ran)
		case a.idempotent[e.function]:
		case len(ran) > 1:
			problem("%s of %s ran %d times: %+v", e.id, e.function, len(ran), ran)
		case e.err != nil && !a.excused(&e, ran):
			problem("%s of %s failed, but neither its entry nor its executing node was killed: %s to %s: %v; ran %+v; sent to %v",
				e.id, e.function, e.start.Format(time.StampMilli), e.end.Format(time.StampMilli), e.err, ran, a.explain(e.id))
		}
	}
	for id, ran := range a.books {
		if !known[id] {
			problem("nobody called %s, which ran: %+v", id, ran)
		}
	}
	return found
}

// excused tells whether a node that had to do with a call was killed while the
// call was open.
func (a *audit) excused(e *entry, ran []ledger.Execution) bool {
	for _, k := range a.kills {
		if e.start.After(k.end) || e.end.Before(k.begun) {
			continue
		}
		if len(ran) == 1 && ran[0].Node == k.id {
			return true
		}
		// The client names the address that it lost; a node that lived on names
		// the node that it had sent the call to.
		if text := e.err.Error(); strings.Contains(text, k.node.api) || strings.Contains(text, k.id) {
			return true
		}
		for _, node := range a.explain(e.id) {
			if node == k.id {
				return true
			}
		}
	}
	return false
}

// sentTo asks the nodes which nodes a call was sent to.
func (c *cluster) sentTo(id string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	record, err := c.client().Explain(ctx, id)
	if err != nil {
		return nil
	}
	var nodes []string
	for _, attempt := range record.Attempts {
		nodes = append(nodes, attempt.Node)
	}
	return nodes
}

// TestAuditFindsWhatIsWrong gives the audit one promise broken at a time.
func TestAuditFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	ran := func(nodes ...string) (list []ledger.Execution) {
		for _, n := range nodes {
			list = append(list, ledger.Execution{Node: n, Instance: n, Number: 1})
		}
		return list
	}
	from := func(node string) *client.Reply {
		body, _ := json.Marshal(ran(node)[0])
		return &client.Reply{Body: body}
	}
	lost := errors.New("POST http://127.0.0.1:7/: EOF")
	kills := []killing{{node: &node{api: "127.0.0.1:7"}, id: "a", begun: at(10), end: at(11)}}
	for _, tc := range []struct {
		name  string
		entry entry
		ran   []ledger.Execution
		sent  []string
		bad   bool
	}{
		{name: "ran once", entry: entry{function: "once", reply: from("a")}, ran: ran("a")},
		{name: "ran twice", entry: entry{function: "once", reply: from("a")}, ran: ran("a", "b"), bad: true},
		{name: "never ran", entry: entry{function: "once", reply: from("a")}, bad: true},
		{name: "answered from elsewhere", entry: entry{function: "once", reply: from("b")}, ran: ran("a"), bad: true},
		{name: "idempotent ran twice", entry: entry{function: "again", reply: from("b")}, ran: ran("a", "b")},
		{name: "idempotent never ran", entry: entry{function: "again", reply: from("a")}, bad: true},
		{name: "idempotent answered from elsewhere", entry: entry{function: "again", reply: from("c")}, ran: ran("a", "b"), bad: true},
		{name: "idempotent failed", entry: entry{function: "again", err: lost, start: at(9), end: at(12)}, ran: ran("a"), bad: true},
		{name: "entry was killed", entry: entry{function: "once", err: lost, start: at(9), end: at(12)}},
		{name: "entry was killed before", entry: entry{function: "once", err: lost, start: at(12), end: at(13)}, bad: true},
		{name: "entry was killed afterwards", entry: entry{function: "once", err: lost, start: at(8), end: at(9)}, bad: true},
		{name: "executing node was killed", entry: entry{function: "once", err: errors.New("lost"), start: at(9), end: at(12)}, ran: ran("a")},
		{name: "was on its way to the killed node", entry: entry{function: "once", err: errors.New("lost"), start: at(9), end: at(12)}, sent: []string{"a"}},
		{name: "other node executed", entry: entry{function: "once", err: errors.New("lost"), start: at(9), end: at(12)}, ran: ran("b"), bad: true},
		{name: "failed and ran twice", entry: entry{function: "once", err: lost, start: at(9), end: at(12)}, ran: ran("a", "b"), bad: true},
		{name: "nobody called it", entry: entry{id: "other", function: "again"}, ran: ran("a"), bad: true},
	} {
		a := audit{
			entries: []entry{tc.entry}, books: map[string][]ledger.Execution{}, kills: kills,
			about:   func(instance string) string { return instance },
			explain: func(string) []string { return tc.sent }, idempotent: map[string]bool{"again": true},
		}
		if tc.ran != nil {
			a.books[""] = tc.ran
		}
		if found := a.problems(); (len(found) > 0) != tc.bad {
			t.Errorf("%s: found %q", tc.name, found)
		}
	}
}
