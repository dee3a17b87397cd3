package node_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
)

func TestOneNodeDeploysAndInvokes(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 1)
	cl := c.Client()
	defer cl.Close()
	deploy(t, c, "echo", "echo", wire.FunctionSpec{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range 3 {
		reply, err := cl.Invoke(ctx, &client.Call{Function: "echo", Body: []byte("hello")})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(reply.Body, []byte("hello")) || reply.Cold != (i == 0) {
			t.Errorf("call %d: %q, cold %v", i, reply.Body, reply.Cold)
		}
	}
}

func TestThreeNodesServeThroughAnyNodeAndWithoutQuorum(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	v := deploy(t, c, "echo", "echo", wire.FunctionSpec{Idempotent: true})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for _, n := range c.Nodes {
		one := c.Client(n)
		defer one.Close()
		if _, err := one.Invoke(ctx, &client.Call{Function: "echo", Body: []byte("x")}); err != nil {
			t.Fatalf("through %s: %v", n.Config.Name, err)
		}
	}
	for _, n := range c.Nodes {
		nodetest.AwaitCode(t, v, n.Config.DataDir)
	}
	// Two of three go: known functions answer, deploys are refused.
	leader := c.Leader()
	var last *nodetest.Node
	for _, n := range c.Nodes {
		if n != leader {
			last = n
		}
	}
	for _, n := range c.Nodes {
		if n != last {
			n.Stop()
		}
	}
	alone := c.Client(last)
	defer alone.Close()
	reply, err := alone.Invoke(ctx, &client.Call{Function: "echo", Body: []byte("alone")})
	if err != nil || string(reply.Body) != "alone" {
		t.Fatalf("without quorum: %v %v", reply, err)
	}
	short, cancel2 := context.WithTimeout(ctx, 4*time.Second) // what it says in the end is tested in e2e
	defer cancel2()
	_, err = alone.PutAlias(short, "default", "echo", "x", wire.AliasChange{Version: 1}, 0)
	if err == nil {
		t.Fatal("a write succeeded without a quorum")
	}
}
