package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// books are all executions that a test knows of, by their name.
type books struct {
	t  testing.TB
	mu sync.Mutex
	// executions is guarded by mu.
	executions map[string]ledger.Execution
}

func newBooks(t testing.TB) *books {
	return &books{t: t, executions: map[string]ledger.Execution{}}
}

func (b *books) add(text string) {
	b.t.Helper()
	var e ledger.Execution
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		b.t.Errorf("ledger has %q: %v", text, err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.executions[fmt.Sprintf("%s/%d", e.Instance, e.Number)] = e
}

// runDir is where the instances of a node have their private directories.
func (n *node) runDir() string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "sandbox.json"))
	var left struct {
		RunDir string `json:"run_dir"`
	}
	if err == nil {
		err = json.Unmarshal(text, &left)
	}
	if err != nil || left.RunDir == "" {
		n.t.Fatalf("find the instances of %s: %v", n.name, err)
	}
	return left.RunDir
}

// instanceDirs are the private directories of instances that opened a ledger.
func (n *node) instanceDirs() []string {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.runDir(), "*", ledger.File))
	if err != nil {
		n.t.Fatal(err)
	}
	dirs := make([]string, len(files))
	for i, f := range files {
		dirs[i] = filepath.Dir(f)
	}
	return dirs
}

// release lets all calls with OpHold on a node go on.
func (n *node) release() {
	n.t.Helper()
	for _, dir := range n.instanceDirs() {
		if err := os.WriteFile(filepath.Join(dir, ledger.ReleaseFile), nil, 0o644); err != nil {
			n.t.Error(err)
		}
	}
}

// readFiles takes over the ledgers of a living node's instances.
func (b *books) readFiles(n *node) {
	b.t.Helper()
	b.read(b.open(n))
}

// killKeeping kills a node and takes over the ledgers of its instances. It stops
// the daemon for a moment before, so that no instance begins after the ledgers
// are opened: once the daemon is dead, any other daemon of this machine removes
// what it left.
func (b *books) killKeeping(n *node) {
	b.t.Helper()
	n.pause()
	files := b.open(n)
	n.kill()
	b.read(files)
}

// open opens the ledgers of a node's instances.
func (b *books) open(n *node) []*os.File {
	b.t.Helper()
	var files []*os.File
	for _, dir := range n.instanceDirs() {
		f, err := os.Open(filepath.Join(dir, ledger.File))
		if errors.Is(err, os.ErrNotExist) {
			continue // it ended in order this moment, so its log is complete
		}
		if err != nil {
			b.t.Fatalf("open ledger: %v", err)
		}
		files = append(files, f)
	}
	return files
}

func (b *books) read(files []*os.File) {
	b.t.Helper()
	for _, f := range files {
		text, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			b.t.Errorf("read ledger: %v", err)
		}
		for line := range strings.Lines(string(text)) {
			// Half a line is an instance that died while it wrote, before it did more.
			if strings.HasSuffix(line, "\n") {
				b.add(line)
			}
		}
	}
}

// readLogs takes over what instances that ended in order had written.
func (b *books) readLogs(cl *client.Client, functions ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, f := range functions {
		for line, err := range cl.Logs(ctx, wire.LogQuery{App: "default", Function: f}) {
			if err != nil {
				b.t.Errorf("read log of %s: %v", f, err)
				break
			}
			if text, ok := strings.CutPrefix(line.Text, ledger.LinePrefix); ok {
				b.add(text)
			}
		}
	}
}

// byRequest returns the executions of each request.
func (b *books) byRequest() map[string][]ledger.Execution {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string][]ledger.Execution{}
	for _, e := range b.executions {
		all[e.RequestID] = append(all[e.RequestID], e)
	}
	return all
}

// entry is one call of the load: what its caller knows.
type entry struct {
	id, function string
	start, end   time.Time
	err          error
	reply        *client.Reply
}

// load calls functions steadily until it is stopped.
type load struct {
	c    *cluster
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	entries []entry // guarded by mu
}

// startLoad starts callers of each function, through one client that knows all
// nodes. Every call holds its instance for a moment, so that a kill finds some open.
func startLoad(c *cluster, callers int, functions ...string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{c: c, stop: cancel}
	cl := c.client()
	for _, f := range functions {
		for range callers {
			l.done.Go(func() {
				for ctx.Err() == nil {
					l.one(cl, f)
				}
			})
		}
	}
	return l
}

func (l *load) one(cl *client.Client, function string) {
	e := entry{id: ulid.Make().String(), function: function, start: time.Now()}
	// Beyond this a call counts as failed; it is not cut short by the test's end.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	body, _ := json.Marshal(ledger.Order{Op: ledger.OpNote, HoldMS: 40})
	e.reply, e.err = cl.Invoke(ctx, &client.Call{Function: function, Body: body, RequestID: e.id})
	e.end = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
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
	kills   []killing
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
		case e.err == nil && len(ran) == 0:
			problem("%s succeeded and never ran", e.id)
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
			list = append(list, ledger.Execution{Node: n})
		}
		return list
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
		{name: "ran once", entry: entry{function: "once"}, ran: ran("a")},
		{name: "ran twice", entry: entry{function: "once"}, ran: ran("a", "b"), bad: true},
		{name: "never ran", entry: entry{function: "once"}, bad: true},
		{name: "idempotent ran twice", entry: entry{function: "again"}, ran: ran("a", "b")},
		{name: "idempotent never ran", entry: entry{function: "again"}, bad: true},
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
