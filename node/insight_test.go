package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestEveryNodeTellsWhatHappenedAnywhere asks each node for the record, the log
// lines and the usage of calls that entered and ran on others.
func TestEveryNodeTellsWhatHappenedAnywhere(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	deploy(t, c, "f", "conformance", wire.FunctionSpec{Max: 1})
	entries := hosts(t, c, "f")
	ids := map[string]string{}
	for entry, cl := range entries {
		reply, err := cl.Invoke(t.Context(), order("f", program.Input{Op: program.OpLog, Data: "through " + entry}))
		if err != nil {
			t.Fatal(err)
		}
		ids[entry] = reply.RequestID
	}
	for _, n := range c.Nodes {
		cl := c.Client(n)
		defer cl.Close()
		for entry, id := range ids {
			record, err := cl.Explain(t.Context(), id)
			if err != nil {
				t.Fatalf("explain %s through %s: %v", entry, n.Config.Name, err)
			}
			last := record.Attempts[len(record.Attempts)-1]
			steps := fmt.Sprint(last.Steps)
			if record.Outcome != "ok" || record.Took <= 0 || last.Reason == "" || !strings.Contains(steps, "run") {
				t.Errorf("record of %s: %+v", entry, record)
			}
			if hop := last.Node != record.Entry; hop != (entry == "hop") || strings.Contains(steps, "hop") != hop {
				t.Errorf("%s entered at %s and ran on %s: %s", entry, record.Entry, last.Node, steps)
			}
			nodetest.Await(t, 20*time.Second, func() error { // lines travel beside the answer
				for _, function := range []string{"f", ""} { // by name, and among all of the app
					text := ""
					for line, err := range cl.Logs(t.Context(), wire.LogQuery{App: "default", Function: function, RequestID: id}) {
						if err != nil {
							return err
						}
						text += line.Function + ": " + line.Text
					}
					if !strings.HasPrefix(text, "f: ") || !strings.Contains(text, "through "+entry) || strings.Count(text, "through") != 1 {
						return fmt.Errorf("log of %s is %q", entry, text)
					}
				}
				return nil
			})
		}
		report, err := cl.Usage(t.Context(), wire.UsageQuery{App: "default", Function: "f"})
		if err != nil || len(report.Missing) > 0 {
			t.Fatalf("usage: %+v, %v", report, err)
		}
		var sum wire.UsageRow
		for _, r := range report.Rows {
			sum.Invocations += r.Invocations
			sum.BilledMS += r.BilledMS
			sum.ColdStarts += r.ColdStarts
		}
		// hosts called at least once through each node, and the two above.
		if sum.Invocations < 5 || sum.BilledMS < sum.Invocations || sum.ColdStarts < 1 {
			t.Errorf("usage through %s: %+v", n.Config.Name, sum)
		}
	}
	if _, err := entries["hop"].Explain(t.Context(), "01JD3Y3K9V6T5R0ZC8M2B1X4QF"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("explain of an unknown request: %v", err)
	}
}

// TestUsageAndLogsNameNodesThatDoNotAnswer stops a node: the report and the log say
// what they lack.
func TestUsageAndLogsNameNodesThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	deploy(t, c, "f", "echo", wire.FunctionSpec{})
	gone := c.Nodes[1]
	id, name := string(gone.Cluster().ID()), gone.Config.Name
	gone.Stop()
	cl := c.Client(c.Nodes[0])
	defer cl.Close()
	report, err := cl.Usage(t.Context(), wire.UsageQuery{})
	if missing := strings.Join(report.Missing, " "); err != nil || (!strings.Contains(missing, id) && !strings.Contains(missing, name)) {
		t.Errorf("missing %q, %v", missing, err)
	}
	var last wire.LogLine
	for line, err := range cl.Logs(t.Context(), wire.LogQuery{App: "default", Function: "f", Tail: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		last = line
	}
	if last.Node != id || last.Stream != "platform" || !strings.Contains(last.Text, name) {
		t.Errorf("the log ends with %+v", last)
	}
}

// TestAppLogFollowsAllItsFunctions follows the log of an app through another node
// than the one that runs the calls.
func TestAppLogFollowsAllItsFunctions(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	for _, name := range []string{"f", "g"} {
		deploy(t, c, name, "conformance", wire.FunctionSpec{})
	}
	caller, reader := c.Client(c.Nodes[0]), c.Client(c.Nodes[1])
	defer caller.Close()
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	said := func() {
		for _, name := range []string{"f", "g"} {
			if _, err := caller.Invoke(ctx, order(name, program.Input{Op: program.OpLog, Data: "said by " + name})); err != nil {
				t.Fatal(err)
			}
		}
	}
	said()
	again := false
	waiting := map[string]int{"f": 2, "g": 2} // what was there, and what comes
	for line, err := range reader.Logs(ctx, wire.LogQuery{App: "default", Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line.Text, "said by "+line.Function) {
			waiting[line.Function]--
		}
		if !again && waiting["f"] == 1 && waiting["g"] == 1 {
			again = true
			said()
		}
		if waiting["f"] == 0 && waiting["g"] == 0 {
			return
		}
	}
	t.Errorf("the log ended without %v lines", waiting)
}
