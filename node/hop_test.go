package node_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// hosts are clients of the node that runs a function and of one that does not: a
// function with at most one instance has its whole share on one node.
func hosts(t *testing.T, c *nodetest.Cluster, function string) map[string]*client.Client {
	t.Helper()
	found := map[string]*client.Client{}
	nodetest.Await(t, 20*time.Second, func() error {
		for _, n := range c.Nodes {
			cl := c.Client(n)
			t.Cleanup(cl.Close)
			reply, err := cl.Invoke(t.Context(), order(function, program.Input{Op: program.OpEcho}))
			if err != nil {
				return err
			}
			if reply.Node == string(n.Cluster().ID()) {
				found["local"] = cl
			} else {
				found["hop"] = cl
			}
		}
		if len(found) != 2 {
			return fmt.Errorf("%d of 2 kinds of entry found", len(found))
		}
		return nil
	})
	return found
}

// TestAnswerIsTheSameThroughEveryEntry calls a function through the node that runs
// it and through another one: what the caller gets must not depend on it.
func TestAnswerIsTheSameThroughEveryEntry(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	deploy(t, c, "f", "conformance", wire.FunctionSpec{Max: 1, TimeoutMS: 20_000})
	deploy(t, c, "s", "conformance", wire.FunctionSpec{Max: 1, Env: map[string]string{program.EnvStream: "1"}})
	for entry, cl := range hosts(t, c, "f") {
		// One after the other: they share an instance, whose end is everybody's.
		t.Run(entry, func(t *testing.T) {
			checkAnswers(t, cl)
		})
	}
	for entry, cl := range hosts(t, c, "s") {
		t.Run("streamed "+entry, func(t *testing.T) {
			var out bytes.Buffer
			if _, err := cl.InvokeTo(t.Context(), order("s", program.Input{Op: program.OpStream, N: 20_000}), &out); err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(out.String(), "\n"); lines != 20_000 || !strings.HasSuffix(out.String(), "line 19999\n") {
				t.Errorf("%d lines arrived", lines)
			}
		})
	}
}

func checkAnswers(t *testing.T, cl *client.Client) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	t.Run("context", func(t *testing.T) {
		call := order("f", program.Input{Op: program.OpContext})
		call.RequestID, call.Trace = "my-request", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		call.Attributes = map[string]string{"width": "200"}
		reply, err := cl.Invoke(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		var seen program.Seen
		if err := json.Unmarshal(reply.Body, &seen); err != nil {
			t.Fatal(err)
		}
		if seen.RequestID != "my-request" || seen.Trace != call.Trace || seen.Attributes["width"] != "200" || seen.App != "default" ||
			seen.Function != "f" || seen.Version != 1 || seen.Attempt != 1 || seen.Node != reply.Node ||
			seen.RemainingMS <= 0 || seen.RemainingMS > 20_000 {
			t.Errorf("the function saw %+v", seen)
		}
		if reply.Version != "default/f:1" || reply.RequestID != "my-request" || !strings.Contains(reply.Timing, "run;dur=") {
			t.Errorf("the caller saw %+v", reply)
		}
	})
	t.Run("large bodies", func(t *testing.T) {
		data := strings.Repeat("x", 5<<20)
		reply, err := cl.Invoke(ctx, order("f", program.Input{Op: program.OpHash, Data: data}))
		sum := sha256.Sum256([]byte(data))
		if err != nil || !bytes.Contains(reply.Body, []byte(hex.EncodeToString(sum[:]))) {
			t.Errorf("5 MiB in: %v", err)
		}
		reply, err = cl.Invoke(ctx, order("f", program.Input{Op: program.OpProduce, N: 5 << 20}))
		if err != nil || len(reply.Body) != 5<<20 {
			t.Errorf("5 MiB out: %v", err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, tc := range []struct {
			in  program.Input
			typ string
		}{
			{program.Input{Op: program.OpError, Type: "BadBird", Data: "no wings"}, "BadBird"},
			{program.Input{Op: program.OpPanic, Data: "no wings"}, ""},
			{program.Input{Op: program.OpExit, N: 3}, "Runtime.ExitError"},
		} {
			_, err := cl.Invoke(ctx, order("f", tc.in))
			answer, ok := errors.AsType[*client.Error](err)
			if !ok || !errors.Is(err, client.ErrFunction) || answer.Problem.Error == nil {
				t.Errorf("%s: %v", tc.in.Op, err)
			} else if tc.typ != "" && answer.Problem.Error.Type != tc.typ {
				t.Errorf("%s has type %q", tc.in.Op, answer.Problem.Error.Type)
			}
		}
	})
	t.Run("logs with the answer", func(t *testing.T) {
		call := order("f", program.Input{Op: program.OpLog, Data: "a line of mine"})
		call.Logs = true
		reply, err := cl.Invoke(ctx, call)
		if err != nil || !bytes.Contains(reply.Logs, []byte("a line of mine")) {
			t.Errorf("logs %q, %v", reply.Logs, err)
		}
	})
	t.Run("caller's deadline", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := cl.Invoke(short, order("f", program.Input{Op: program.OpHang}))
		if took := time.Since(begun); err == nil || took > 30*time.Second {
			t.Errorf("a call that hangs ended after %v with %v", took, err)
		}
	})
}

// TestTimeoutEndsTheInstanceBeforeTheAnswer lets a function hang beyond its own
// timeout: 504 through every entry, and nothing of it runs any more by then.
func TestTimeoutEndsTheInstanceBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	deploy(t, c, "f", "conformance", wire.FunctionSpec{Max: 1, TimeoutMS: 1000})
	for entry, cl := range hosts(t, c, "f") {
		_, err := cl.Invoke(t.Context(), order("f", program.Input{Op: program.OpHang}))
		answer, ok := errors.AsType[*client.Error](err)
		if !ok || answer.Status != 504 || answer.Code != wire.CodeTimeout {
			t.Errorf("%s: %v", entry, err)
		}
		f, err := cl.Function(t.Context(), "default", "f")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Placements {
			if p.Instances+p.InFlight > 0 {
				t.Errorf("%s: after the 504 there are %d instances with %d calls", entry, p.Instances, p.InFlight)
			}
		}
	}
}
