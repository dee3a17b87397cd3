package node_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// functions is where the functions of the tests are, built once per run.
var functions string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "covey-node-test-")
	if err == nil {
		err = nodetest.Build(dir, "plugins/examples/echo", "plugins/examples/conformance")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	functions = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// deploy deploys one of the functions.
func deploy(t testing.TB, c *nodetest.Cluster, name, function string, spec wire.FunctionSpec) *wire.Version {
	t.Helper()
	cl := c.Client()
	defer cl.Close()
	return nodetest.Deploy(t, cl, name, filepath.Join(functions, function), spec)
}

// order is a call of the conformance program.
func order(function string, in program.Input) *client.Call {
	body, err := json.Marshal(in)
	if err != nil {
		panic(err) // plain data can always be encoded
	}
	return &client.Call{Function: function, Body: body}
}
