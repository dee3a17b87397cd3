package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

func nested(t *testing.T, in program.Input) string {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestFunctionInvokesOthersOfItsApp makes host calls that stay on the node and
// such that cross to another one, and those that must be refused.
func TestFunctionInvokesOthersOfItsApp(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	deploy(t, c, "caller", "conformance", wire.FunctionSpec{Concurrency: 32})
	deploy(t, c, "callee", "conformance", wire.FunctionSpec{Max: 1})
	inner := nested(t, program.Input{Op: program.OpEcho, Data: "from the callee"})
	for _, n := range c.Nodes {
		cl := c.Client(n)
		defer cl.Close()
		through := func(target, data string) (*client.Reply, error) {
			return cl.Invoke(t.Context(), order("caller", program.Input{Op: program.OpInvoke, Type: target, Data: data}))
		}
		for _, target := range []string{"callee", "callee:1", "callee:live"} {
			reply, err := through(target, inner)
			if err != nil || !bytes.Contains(reply.Body, []byte("from the callee")) {
				t.Errorf("%s through %s: %v", target, n.Config.Name, err)
			}
		}
		for _, tc := range []struct{ name, target, data, says string }{
			{"unknown function", "nobody", inner, "unknown function"},
			{"another app", "shop/callee", inner, "own app"},
			{"callee's error", "callee", nested(t, program.Input{Op: program.OpError, Type: "NoWings", Data: "cannot fly"}), "cannot fly"},
		} {
			_, err := through(tc.target, tc.data)
			answer, ok := errors.AsType[*client.Error](err)
			if !ok || !errors.Is(err, client.ErrFunction) || answer.Problem.Error == nil || !strings.Contains(answer.Problem.Error.Message, tc.says) {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
	}
}

// TestFunctionsThatInvokeEachOtherWithoutEndAreStopped nests calls deeper than the
// platform allows, across nodes.
func TestFunctionsThatInvokeEachOtherWithoutEndAreStopped(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	deploy(t, c, "f", "conformance", wire.FunctionSpec{Concurrency: 64})
	cl := c.Client()
	defer cl.Close()
	nest := func(depth int) program.Input {
		in := program.Input{Op: program.OpEcho, Data: "bottom"}
		for range depth {
			in = program.Input{Op: program.OpInvoke, Type: "f", Data: nested(t, in)}
		}
		return in
	}
	if reply, err := cl.Invoke(t.Context(), order("f", nest(8))); err != nil || !bytes.Contains(reply.Body, []byte("bottom")) {
		t.Errorf("8 deep: %v", err)
	}
	_, err := cl.Invoke(t.Context(), order("f", nest(invoke.MaxDepth+1)))
	answer, ok := errors.AsType[*client.Error](err)
	if !ok || answer.Problem.Error == nil || !strings.Contains(answer.Problem.Error.Message, "depth") {
		t.Errorf("%d deep: %v", invoke.MaxDepth+1, err)
	}
}
