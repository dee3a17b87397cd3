package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestTopShowsTheWholeClusterThroughAnyNode calls a function through each node and
// watches through each: the calls of all are in the sums, once.
func TestTopShowsTheWholeClusterThroughAnyNode(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	deploy(t, c, "f", "conformance", wire.FunctionSpec{Max: 1})
	entries := hosts(t, c, "f")
	for _, n := range c.Nodes {
		cl := c.Client(n)
		defer cl.Close()
		begun, led, warm, sum := false, false, false, wire.TopFunction{}
		var ran float64
		for top, err := range cl.Top(t.Context(), wire.TopQuery{Interval: 200 * time.Millisecond, Count: 600}) {
			if err != nil {
				t.Fatal(err)
			}
			whole := len(top.Nodes) == 3 && len(top.Missing) == 0
			if !whole && !begun {
				continue // not all counters are known yet
			}
			if !begun {
				begun = true
				for _, entry := range entries {
					for range 3 {
						if _, err := entry.Invoke(t.Context(), order("f", program.Input{Op: program.OpEcho, Data: "x"})); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if top.WindowMS <= 0 || top.ClusterID == "" || top.Alive == 0 {
				t.Errorf("header: %+v", top)
			}
			led = led || top.Leader != "" // a busy machine may hold an election meanwhile
			for _, node := range top.Nodes {
				ran += node.CallsPerSecond
			}
			for _, f := range top.Functions {
				sum.Calls += f.Calls
				sum.Forwarded += f.Forwarded
				sum.Errors += f.Errors
				if f.Calls > 0 && (f.P50MS == nil || f.P99MS == nil || *f.P50MS > *f.P99MS || f.ColdRatio == nil || f.CallsPerSecond <= 0) {
					t.Errorf("function: %+v", f)
				}
				warm = warm || f.Instances == 1 && f.Nodes == 1
				if f.Function != "f" || strings.Join(f.Aliases, " ") != "live" {
					t.Errorf("function: %+v", f)
				}
			}
			if sum.Calls >= uint64(3*len(entries)) && ran > 0 && led && warm {
				break
			}
		}
		if sum.Calls != uint64(3*len(entries)) || sum.Forwarded != 3 || sum.Errors != 0 || ran == 0 || !led || !warm {
			t.Errorf("through %s: %+v, ran %v, led %v, warm %v", n.Config.Name, sum, ran, led, warm)
		}
	}
}

// TestTopNamesNodesThatDoNotAnswer stops a node while somebody watches, and starts
// it again: it is there, with why its numbers lack, and then with numbers.
func TestTopNamesNodesThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	other := c.Nodes[1]
	name := other.Config.Name
	cl := c.Client(c.Nodes[0])
	defer cl.Close()
	state, reports := "answers", 0
	for top, err := range cl.Top(t.Context(), wire.TopQuery{Interval: 100 * time.Millisecond}) {
		if err != nil {
			t.Fatal(err)
		}
		if reports++; reports > 1000 {
			t.Fatalf("%s: still waiting: %+v", state, top)
		}
		var seen wire.TopNode
		for _, n := range top.Nodes {
			if n.Name == name {
				seen = n
			}
		}
		if seen.Name == "" || (seen.Error != "") != (fmt.Sprint(top.Missing) == "["+name+"]") {
			t.Fatalf("%s: %+v", state, top)
		}
		switch {
		case state == "answers" && seen.Error == "":
			if seen.MemoryBudgetBytes == 0 {
				t.Errorf("%+v", seen)
			}
			other.Stop()
			state = "stopped"
		case state == "stopped" && seen.Error != "":
			if seen.MemoryBudgetBytes != 0 {
				t.Errorf("%+v", seen)
			}
			other.Start()
			state = "started"
		case state == "started" && seen.Error == "":
			return
		}
	}
	t.Errorf("the stream ended while the node was %s", state)
}
