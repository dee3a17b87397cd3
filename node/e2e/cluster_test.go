package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corenode "github.com/covey-dev/covey/node"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
	"github.com/covey-dev/covey/node/nodetest"
)

// formTime bounds the forming of a cluster: promotions wait until a node was
// stable for ten seconds, in steps of five.
const formTime = 90 * time.Second

// cluster is a number of nodes that joined each other.
type cluster struct {
	t     testing.TB
	nodes []*node
	token string
}

// newCluster founds a cluster and lets n-1 nodes join it. It waits for their
// roles only where a test asks for them.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	first := newNode(t, "node-1")
	c.nodes = append(c.nodes, first)
	first.start("--init")
	c.token = adminToken(t, first)
	if n == 1 {
		return c
	}
	join := c.joinToken()
	started := make([]*process, 0, n)
	for i := 2; i <= n; i++ {
		next := newNode(t, fmt.Sprintf("node-%d", i))
		c.nodes = append(c.nodes, next)
		started = append(started, next.launch("--join", join))
	}
	for i, p := range started {
		c.nodes[i+1].awaitReady(p)
	}
	return c
}

func adminToken(t testing.TB, n *node) string {
	t.Helper()
	token, err := corenode.ReadAdminToken(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// joinToken makes a join token with the command that an operator uses.
func (c *cluster) joinToken() string {
	c.t.Helper()
	out := c.covey("token", "create", "--kind", "join", "--data-dir", c.nodes[0].dir)
	return strings.TrimSpace(out)
}

// covey runs a command of the command line and returns what it printed.
func (c *cluster) covey(args ...string) string {
	c.t.Helper()
	out, err := covey(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// covey runs one command, bounded in time. Its error holds what it said.
func covey(args ...string) (stdout string, err error) { return run(coveyBin, args...) }

// run is covey with another program.
func run(program string, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("covey %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// client returns an admin's client for the given nodes, all if none is given.
func (c *cluster) client(nodes ...*node) *client.Client {
	c.t.Helper()
	return c.clientWith(client.DefaultConfig(), nodes...)
}

// once returns a client that sends nothing again.
func (c *cluster) once(nodes ...*node) *client.Client {
	c.t.Helper()
	cfg := client.DefaultConfig()
	cfg.MaxAttempts = 1
	return c.clientWith(cfg, nodes...)
}

func (c *cluster) clientWith(cfg client.Config, nodes ...*node) *client.Client {
	c.t.Helper()
	if len(nodes) == 0 {
		nodes = c.nodes
	}
	cfg.Token = c.token
	for _, n := range nodes {
		cfg.Addresses = append(cfg.Addresses, n.api)
	}
	cl, err := client.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

// deploy deploys the ledger function through the given nodes, all if none.
func (c *cluster) deploy(name string, spec wire.FunctionSpec, nodes ...*node) *wire.Version {
	c.t.Helper()
	return nodetest.Deploy(c.t, c.client(nodes...), name, functionBin, spec)
}

// status asks one node, with a bound.
func (c *cluster) status(n *node) (*wire.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.once(n).Status(ctx)
}

// list asks one node for all nodes, with a bound.
func (c *cluster) list(n *node) ([]wire.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.once(n).Nodes(ctx)
}

// id is the node's id, asked once while it runs.
func (c *cluster) id(n *node) string {
	c.t.Helper()
	n.mu.Lock()
	id := n.id
	n.mu.Unlock()
	if id != "" {
		return id
	}
	await(c.t, 15*time.Second, "id of "+n.name, func() error {
		s, err := c.status(n)
		if err == nil {
			id = s.Node
		}
		return err
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.id = id
	return id
}

// awaitWhole waits until every node that runs sees the same cluster: so many
// voters, a leader, a quorum, and all nodes that run alive.
func (c *cluster) awaitWhole(voters int, most time.Duration) {
	c.t.Helper()
	await(c.t, most, "cluster is whole", func() error {
		up := c.up()
		var id string
		for _, n := range up {
			s, err := c.status(n)
			if err != nil {
				return err
			}
			if id == "" {
				id = s.ClusterID
			}
			if s.ClusterID != id {
				return fmt.Errorf("%s is in cluster %s, others in %s", n.name, s.ClusterID, id)
			}
			if !s.Quorum || s.Leader == "" || s.Voters != voters || s.Alive < len(up) {
				return fmt.Errorf("%s sees %d voters, %d of %d alive, leader %q, quorum %v", n.name, s.Voters, s.Alive, len(up), s.Leader, s.Quorum)
			}
		}
		return nil
	})
}

// up are the nodes whose daemon runs.
func (c *cluster) up() []*node {
	var up []*node
	for _, n := range c.nodes {
		if n.running() != nil {
			up = append(up, n)
		}
	}
	return up
}

// leader waits until all nodes that run agree who leads.
func (c *cluster) leader() *node {
	c.t.Helper()
	var leader *node
	await(c.t, 30*time.Second, "one leader", func() error {
		var id string
		for _, n := range c.up() {
			s, err := c.status(n)
			if err != nil {
				return err
			}
			if s.Leader == "" || (id != "" && s.Leader != id) {
				return fmt.Errorf("%s says the leader is %q, another %q", n.name, s.Leader, id)
			}
			id = s.Leader
		}
		for _, n := range c.up() {
			if c.id(n) == id {
				leader = n
				return nil
			}
		}
		return fmt.Errorf("leader %s is none of the nodes that run", id)
	})
	return leader
}

// others are the running nodes but for some.
func (c *cluster) others(but ...*node) []*node {
	var rest []*node
next:
	for _, n := range c.up() {
		for _, b := range but {
			if n == b {
				continue next
			}
		}
		rest = append(rest, n)
	}
	return rest
}

// call invokes the ledger function and decodes its answer into out, if given.
func call(ctx context.Context, cl *client.Client, function string, order ledger.Order, out any) (*client.Reply, error) {
	body, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	reply, err := cl.Invoke(ctx, &client.Call{Function: function, Body: body})
	if err == nil && out != nil {
		err = json.Unmarshal(reply.Body, out)
	}
	return reply, err
}

// mustCall is call, within a time, for a call that must succeed.
func mustCall(t testing.TB, cl *client.Client, function string, order ledger.Order, out any) *client.Reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	reply, err := call(ctx, cl, function, order, out)
	if err != nil {
		t.Fatalf("invoke %s: %v", function, err)
	}
	return reply
}

// problem returns what the cluster answered with, or nil.
func problem(err error) *client.Error {
	e, _ := errors.AsType[*client.Error](err)
	return e
}
