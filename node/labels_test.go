package node_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
)

func TestWorkFollowsTheLabelsOfNodes(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	first, second := c.Nodes[0], c.Nodes[1]
	label := func(n *nodetest.Node, labels map[string]string) {
		t.Helper()
		n.Stop()
		n.Config.Labels = labels
		n.Start()
	}
	awaitLabel := func(name, want string) {
		t.Helper()
		cl := c.Client(first)
		defer cl.Close()
		nodetest.Await(t, 60*time.Second, func() error {
			nodes, err := cl.Nodes(t.Context())
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.Name == name && n.Labels["disk"] == want {
					return nil
				}
			}
			return fmt.Errorf("no node %s with the label disk=%s in %v", name, want, nodes)
		})
	}
	awaitOn := func(want *nodetest.Node) {
		t.Helper()
		for _, entry := range []*nodetest.Node{first, second} {
			cl := c.Client(entry)
			nodetest.Await(t, 60*time.Second, func() error {
				reply, err := cl.Invoke(t.Context(), &client.Call{Function: "picky", Body: []byte("{}")})
				if err != nil {
					return err
				}
				if reply.Node != string(want.Cluster().ID()) {
					return errors.New("ran on " + reply.Node)
				}
				return nil
			})
			cl.Close()
		}
	}

	label(second, map[string]string{"disk": "ssd"})
	awaitLabel("node-2", "ssd")
	deploy(t, c, "picky", "echo", wire.FunctionSpec{Place: map[string]string{"disk": "ssd"}, Max: 2})
	awaitOn(second)
	label(second, map[string]string{"disk": "hdd"})
	awaitLabel("node-2", "hdd")
	label(first, map[string]string{"disk": "ssd"})
	awaitLabel("node-1", "ssd")
	awaitOn(first)
}
