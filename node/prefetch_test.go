package node_test

import (
	"testing"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
)

func TestEveryNodeHasTheCodeOfLiveVersionsBeforeACall(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 5) // more than the three that own a blob
	v := deploy(t, c, "echo", "echo", wire.FunctionSpec{})
	var dirs []string
	for _, n := range c.Nodes {
		dirs = append(dirs, n.Config.DataDir)
	}
	nodetest.AwaitCode(t, v, dirs...)
}
