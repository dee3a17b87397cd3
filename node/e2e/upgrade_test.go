package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestOldAndNewNodesAreOneCluster runs nodes of the previous release and of this one
// together: each deploys, and calls find their way between them, under a leader of
// either. Then the old ones are upgraded one after the other under load, and no call
// fails.
func TestOldAndNewNodesAreOneCluster(t *testing.T) {
	t.Parallel()
	old := previousRelease(t)
	c := &cluster{t: t, nodes: []*node{old.node(t, "old-1")}}
	one := c.nodes[0]

	// An old node founds the cluster and leads it.
	one.start("--init")
	c.token = adminToken(t, one)
	level := c.level(one)
	if err := c.deployForeign(one, "exec"); err == nil || !strings.Contains(err.Error(), "no node can run it") {
		t.Errorf("deploy for a runtime that no node has: %v", err)
	}
	join := c.joinToken()
	two, three := old.node(t, "old-2"), newNode(t, "new-3")
	c.nodes = append(c.nodes, two, three)
	p, q := two.launch("--join", join), three.launch("--join", join)
	two.awaitReady(p)
	three.awaitReady(q)
	if leader := c.leader(); leader != one {
		t.Fatalf("%s leads", leader.name)
	}

	// Each takes deploys, of functions built with either SDK.
	c.deploy("noted", wire.FunctionSpec{Idempotent: true}, one)
	nodetest.Deploy(t, c.client(three), "former", old.conformance, wire.FunctionSpec{})
	nodetest.Deploy(t, c.client(two), "streamed", old.conformance, wire.FunctionSpec{Env: map[string]string{program.EnvStream: "1"}})
	for _, target := range []*node{three, one} { // from old to new, from new to old
		c.only(target, func() {
			for _, entry := range c.others(target) {
				c.checkCalls(entry, target)
			}
		})
	}
	foreign := c.foreignRuntimes(three)
	for _, runtime := range foreign {
		if err := c.deployForeign(two, runtime); err != nil {
			t.Fatal(err)
		}
		for _, entry := range c.nodes {
			c.callForeign(entry, runtime, three)
		}
	}
	c.awaitWhole(3, formTime)
	c.checkTogether()
	old.checkCommands(c, three)
	c.checkNews(three, level)

	// Then a new one leads. That takes a second try if the leadership went to the other
	// old one.
	c.deploy("once", wire.FunctionSpec{}, one)
	l := startLoad(c, 2, "noted", "once")
	defer l.finish()
	one.upgrade()
	c.awaitWhole(3, 30*time.Second)
	if c.leader() == two {
		two.stop()
		two.start()
		c.awaitWhole(3, 30*time.Second)
	}
	leader := c.leader()
	if leader == two {
		t.Fatalf("%s leads again", two.name)
	}
	t.Logf("%s leads old nodes, new runtimes are %v", leader.name, foreign)
	four := old.node(t, "old-4")
	four.start("--join", c.joinToken())
	c.nodes = append(c.nodes, four)
	nodetest.Deploy(t, c.client(two), "former", old.conformance, wire.FunctionSpec{})
	c.only(four, func() { c.checkCalls(one, four) })
	c.checkTogether()
	c.checkNews(leader, level)
	for _, n := range c.nodes {
		if now := c.level(n); now != level {
			t.Errorf("%s is at feature level %d while old nodes know %d", n.name, now, level)
		}
	}

	// Without old nodes everything is to be had.
	for _, n := range []*node{two, four} {
		n.upgrade()
		c.awaitWhole(3, 30*time.Second)
	}
	checkLevel(t, c)
	c.checkNews(four, state.FeatureLevel)
	c.checkTogether()
	c.deploy("noted", wire.FunctionSpec{Idempotent: true, Labels: map[string]string{"since": "upgrade"}}, two)
	c.only(two, func() {
		c.checkCalls(one, two)
		for _, runtime := range foreign { // it has them now, too
			c.callForeign(four, runtime, two)
		}
	})
	calls := l.finish()
	for _, e := range calls {
		if e.err != nil {
			t.Errorf("%s of %s failed, %s to %s: %v; sent to %v", e.id, e.function, e.start.Format(time.StampMilli), e.end.Format(time.StampMilli), e.err, c.sentTo(e.id))
		}
	}
	t.Logf("%d calls during the upgrade", len(calls))
	if level < state.FeatureLevel {
		old.checkTooOld(four)
	}
}

// checkTooOld starts a node of a cluster that knows more than the release with its
// daemon again, and then with the new one, to which it is none the worse for it.
func (r *release) checkTooOld(n *node) {
	n.t.Helper()
	n.stop()
	n.bin = r.covey
	n.launch()
	await(n.t, 30*time.Second, n.name+" says that it is too old", func() error {
		status, body, err := request("GET", n, "/readyz?verbose", "")
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(string(body), "[-]state")) {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	})
	n.upgrade()
}

// level is the cluster's feature level as a node knows it.
func (c *cluster) level(n *node) uint32 {
	c.t.Helper()
	s, err := c.status(n)
	if err != nil {
		c.t.Fatal(err)
	}
	return s.FeatureLevel
}

// only drains every node but one while work is done.
func (c *cluster) only(n *node, work func()) {
	c.t.Helper()
	drain := func(on bool) {
		for _, other := range c.others(n) {
			if err := c.client().Drain(c.t.Context(), c.id(other), on); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	drain(true)
	for _, entry := range c.up() {
		await(c.t, 15*time.Second, entry.name+" knows who drains", func() error {
			nodes, err := c.list(entry)
			for _, s := range nodes {
				if s.Draining == (s.ID == c.id(n)) {
					err = errors.Join(err, fmt.Errorf("%s: draining %v", s.Name, s.Draining))
				}
			}
			return err
		})
	}
	work()
	drain(false)
}

// checkCalls sends every kind of call through one node to a function that runs on
// another.
func (c *cluster) checkCalls(entry, target *node) {
	c.t.Helper()
	t, cl, way := c.t, c.once(entry), entry.name+" to "+target.name
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	order := func(function string, in program.Input) *client.Call {
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		return &client.Call{Function: function, Body: body}
	}

	sent := order("former", program.Input{Op: program.OpContext})
	sent.Trace, sent.Attributes = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", map[string]string{"width": "200"}
	var reply *client.Reply
	await(t, 15*time.Second, "a call from "+way, func() (err error) { // placement follows the state a moment later
		reply, err = cl.Invoke(ctx, sent)
		if err == nil && reply.Node != c.id(target) {
			err = fmt.Errorf("ran on %s", reply.Node)
		}
		return err
	})
	var seen program.Seen
	if err := json.Unmarshal(reply.Body, &seen); err != nil {
		t.Fatalf("%s: %v", way, err)
	}
	if seen.Trace != sent.Trace || seen.Attributes["width"] != "200" || seen.Attempt != 1 || seen.RemainingMS <= 0 || seen.Node != c.id(target) {
		t.Errorf("%s: the function saw %+v", way, seen)
	}
	if !strings.Contains(reply.Timing, "run;dur=") {
		t.Errorf("%s: the caller saw %+v", way, reply)
	}

	const size = 1 << 20
	data := strings.Repeat("x", size)
	sum := sha256.Sum256([]byte(data))
	if reply, err := cl.Invoke(ctx, order("former", program.Input{Op: program.OpHash, Data: data})); err != nil ||
		!bytes.Contains(reply.Body, []byte(hex.EncodeToString(sum[:]))) {
		t.Errorf("%s: large event: %v", way, err)
	}
	if reply, err := cl.Invoke(ctx, order("former", program.Input{Op: program.OpProduce, N: size})); err != nil || len(reply.Body) != size {
		t.Errorf("%s: large answer: %v", way, err)
	}
	var out bytes.Buffer
	if _, err := cl.InvokeTo(ctx, order("streamed", program.Input{Op: program.OpStream, N: 5000}), &out); err != nil ||
		strings.Count(out.String(), "\n") != 5000 {
		t.Errorf("%s: stream of %d bytes: %v", way, out.Len(), err)
	}
	_, err := cl.Invoke(ctx, order("former", program.Input{Op: program.OpError, Type: "BadBird", Data: "no wings"}))
	if answer := problem(err); !errors.Is(err, client.ErrFunction) || answer.Problem.Error == nil || answer.Problem.Error.Type != "BadBird" {
		t.Errorf("%s: error of the function: %v", way, err)
	}
	if _, err = cl.Invoke(ctx, order("former", program.Input{Op: program.OpExit, N: 3})); !errors.Is(err, client.ErrFunction) {
		t.Errorf("%s: exit of the function: %v", way, err)
	}
	logged := order("former", program.Input{Op: program.OpLog, Data: "a line of mine"})
	logged.Logs = true
	if reply, err := cl.Invoke(ctx, logged); err != nil || !bytes.Contains(reply.Logs, []byte("a line of mine")) {
		t.Errorf("%s: log of the call: %v", way, err)
	}
	hosted := order("former", program.Input{Op: program.OpInvoke, Type: "noted", Data: `{"op":"` + ledger.OpNote + `"}`})
	if _, err := cl.Invoke(ctx, hosted); err != nil {
		t.Errorf("%s: call by the function: %v", way, err)
	}
	short, cancelShort := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelShort()
	begun := time.Now()
	if _, err := cl.Invoke(short, order("former", program.Input{Op: program.OpHang})); err == nil || time.Since(begun) > 30*time.Second {
		t.Errorf("%s: a call that hangs ended after %v with %v", way, time.Since(begun), err)
	}
}

// checkTogether asks every node about all of them.
func (c *cluster) checkTogether() {
	c.t.Helper()
	for _, n := range c.up() {
		await(c.t, 15*time.Second, n.name+" knows the others", func() error {
			nodes, err := c.list(n)
			if err == nil && len(nodes) != len(c.nodes) {
				err = fmt.Errorf("%d nodes", len(nodes))
			}
			for _, s := range nodes {
				if s.Error != "" || !s.Alive || s.Index == 0 {
					err = errors.Join(err, fmt.Errorf("%s: alive %v, index %d, %s", s.Name, s.Alive, s.Index, s.Error))
				}
			}
			return err
		})
		report, err := c.client(n).Usage(c.t.Context(), wire.UsageQuery{})
		if err != nil || len(report.Missing) > 0 || len(report.Rows) == 0 {
			c.t.Errorf("usage through %s: %+v, %v", n.name, report, err)
		}
		var lines int
		for _, err := range c.client(n).Logs(c.t.Context(), wire.LogQuery{App: "default", Function: "noted"}) {
			if err != nil {
				c.t.Errorf("logs through %s: %v", n.name, err)
			}
			lines++
		}
		if lines == 0 {
			c.t.Errorf("no logs through %s", n.name)
		}
		if err := c.client(n).Backup(c.t.Context(), io.Discard); err != nil {
			c.t.Errorf("backup through %s: %v", n.name, err)
		}
	}
}

// checkNews asks a new node for what old nodes may not know. It must be refused below
// its feature level: an old node that met it would stop.
func (c *cluster) checkNews(n *node, level uint32) {
	c.t.Helper()
	refused := func(what string, needs uint32, err error) {
		c.t.Helper()
		if e := problem(err); (level < needs) != (e != nil) || (e == nil && err != nil) {
			c.t.Errorf("%s at feature level %d through %s: %v", what, level, n.name, err)
		}
	}
	_, err := c.client(n).CreateToken(c.t.Context(), wire.TokenRequest{Kind: wire.KindAWSKey})
	refused("access key", state.AccessKeyLevel, err)
	noted, err := c.client(n).Function(c.t.Context(), "default", "noted")
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = c.client(n).Deploy(c.t.Context(), "default", "set", wire.DeployRequest{FunctionSpec: wire.FunctionSpec{
		Artifacts: noted.Current.Spec.Artifacts, Env: map[string]string{"COVEY_EXEC_STREAM": "1"},
	}})
	refused("setting of a runtime", state.RuntimeSettingsLevel, err)
	_, err = c.client(n).Deploy(c.t.Context(), "default", "kept", wire.DeployRequest{FunctionSpec: wire.FunctionSpec{
		Artifacts: noted.Current.Spec.Artifacts, Reserved: 2,
	}})
	refused("reserved concurrency", state.GuaranteesLevel, err)
	_, err = c.client(n).Deploy(c.t.Context(), "default", "kept", wire.DeployRequest{FunctionSpec: wire.FunctionSpec{
		Artifacts: noted.Current.Spec.Artifacts, Provisioned: []wire.Provision{{Count: 1}}, Rate: &wire.Rate{PerSecond: 1000},
	}})
	refused("provisioned concurrency", state.GuaranteesLevel, err)
	_, err = c.client(n).Deploy(c.t.Context(), "default", "affine", wire.DeployRequest{FunctionSpec: wire.FunctionSpec{
		Artifacts: noted.Current.Spec.Artifacts, Affinity: true,
	}})
	refused("affinity", state.PlacementLevel, err)
}

// checkCommands uses the command line of the previous release on a node.
func (r *release) checkCommands(c *cluster, n *node) {
	c.t.Helper()
	where := []string{"--addr", n.api, "--token-file", filepath.Join(c.nodes[0].dir, "admin.token")}
	for _, command := range [][]string{
		{"status"},
		{"nodes"},
		{"list"},
		{"describe", "noted"},
		{"usage"},
		{"token", "list"},
		{"logs", "noted"},
		{"alias", "noted", "kept", "1"},
		{"deploy", "commanded", r.function},
		{"invoke", "commanded", "-d", `{"op":"` + ledger.OpNote + `"}`},
	} {
		if out, err := run(r.covey, append(command, where...)...); err != nil || out == "" {
			c.t.Errorf("the previous release's command says %q: %v", out, err)
		}
	}
}

// foreignRuntimes are those that a node has and the previous release knows nothing of,
// as far as there is code for them here.
func (c *cluster) foreignRuntimes(n *node) []string {
	c.t.Helper()
	nodes, err := c.list(n)
	if err != nil {
		c.t.Fatal(err)
	}
	var found []string
	for _, s := range nodes {
		for runtime := range foreignCode {
			if s.ID == c.id(n) && slices.Contains(s.Runtimes, runtime) {
				found = append(found, runtime)
			}
		}
	}
	if !slices.Contains(found, "exec") { // the binary hosts it
		c.t.Fatalf("%s has the runtimes %v", n.name, found)
	}
	slices.Sort(found)
	return found
}

// foreignCode is a function that answers with its event, by runtime.
var foreignCode = map[string]struct{ file, code, handler string }{
	"exec":   {"run", "#!/bin/sh\nexec cat\n", "./run"},
	"python": {"main.py", "def handle(event, context):\n    return event\n", "main.handle"},
}

// deployForeign deploys it through a node, under the runtime's name.
func (c *cluster) deployForeign(n *node, runtime string) error {
	dir, code := c.t.TempDir(), foreignCode[runtime]
	if err := os.WriteFile(filepath.Join(dir, code.file), []byte(code.code), 0o755); err != nil {
		c.t.Fatal(err)
	}
	_, err := covey("deploy", runtime, dir, "--runtime", runtime, "--handler", code.handler,
		"--addr", n.api, "--token-file", filepath.Join(c.nodes[0].dir, "admin.token"))
	return err
}

// callForeign calls it through one node and wants it to run on another.
func (c *cluster) callForeign(entry *node, runtime string, target *node) {
	c.t.Helper()
	const event = `{"bird":"quail"}`
	await(c.t, 15*time.Second, runtime+" through "+entry.name, func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
		defer cancel()
		reply, err := c.once(entry).Invoke(ctx, &client.Call{Function: runtime, Body: []byte(event)})
		if err == nil && (strings.ReplaceAll(strings.TrimSpace(string(reply.Body)), " ", "") != event || reply.Node != c.id(target)) {
			err = fmt.Errorf("%s answered %q", reply.Node, reply.Body)
		}
		return err
	})
}
