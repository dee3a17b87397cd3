package plugintest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest/program"
	"github.com/google/go-cmp/cmp"
)

const (
	// patience is how long a case waits for what must happen.
	patience = time.Minute
	// largeBody is the size of body that every host must take in both directions.
	largeBody = 6 << 20
	// crowd is how many calls one instance must take at once.
	crowd = 64
)

// testCase is one thing that a function may rely on.
type testCase struct {
	name  string
	needs Capability // "" if any host can run it
	run   func(t *testing.T, target Target)
}

// cases returns the suite.
func cases() []testCase {
	return []testCase{
		{"echo", "", testEcho},
		{"context", "", testContext},
		{"typed error", "", testTypedError},
		{"panic", "", testPanic},
		{"exit mid-call", "", testExit},
		{"init failure", "", testInitFailure},
		{"init exit", "", testInitExit},
		{"timeout", "", testTimeout},
		{"cancellation", TellsCancellation, testCancellation},
		{"large input", "", testLargeInput},
		{"large output", "", testLargeOutput},
		{"too large output", "", testTooLargeOutput},
		{"streamed output", Streams, testStream},
		{"failing stream", Streams, testFailingStream},
		{"concurrent calls", "", testConcurrent},
		{"logs by request id", "", testLogs},
		{"environment", "", testEnvironment},
		{"host call", ServesHostCalls, testHostCall},
		{"failing host call", ServesHostCalls, testFailingHostCall},
		{"memory limit", EnforcesMemory, testMemory},
	}
}

// Run runs every case as a subtest of t.
func Run(t *testing.T, target Target) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			if target.lacks(c.needs) {
				t.Skipf("the host lacks: %s", c.needs)
			}
			t.Parallel()
			c.run(t, target)
		})
	}
}

// lacks tells whether the host cannot do something. No case needs nothing.
func (t Target) lacks(c Capability) bool { return c != "" && slices.Contains(t.Lacks, c) }

// requestID names the n-th call of a case. Request ids must differ, because logs are filed by them.
func requestID(t *testing.T, n int) string {
	return fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), n)
}

// invoke runs one operation and returns the whole output.
func invoke(t *testing.T, f Function, id string, in program.Input) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return invokeContext(ctx, f, id, in)
}

func invokeContext(ctx context.Context, f Function, id string, in program.Input) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	call := &plugins.Call{Body: body}
	call.RequestID, call.Attempt = id, 1
	call.App, call.Function, call.Version = "default", "conformance", 1
	reply, err := f.Invoke(ctx, call)
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	if reply.Stream == nil {
		return slices.Clone(reply.Body), nil
	}
	defer reply.Stream.Close()
	return io.ReadAll(reply.Stream)
}

// mustInvoke is invoke for a call that must succeed.
func mustInvoke(t *testing.T, f Function, n int, in program.Input) program.Output {
	t.Helper()
	body, err := invoke(t, f, requestID(t, n), in)
	if err != nil {
		t.Fatalf("%s: %v", in.Op, err)
	}
	var out program.Output
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%s: output %.100q: %v", in.Op, body, err)
	}
	return out
}

// mustWorkAgain checks that the function takes a call after what happened to it before.
func mustWorkAgain(t *testing.T, f Function) {
	t.Helper()
	if got := mustInvoke(t, f, 1000, program.Input{Op: program.OpEcho, Data: "still here"}); got.Data != "still here" {
		t.Errorf("afterwards: got %q", got.Data)
	}
}

// eventually polls check until it succeeds.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("gave up after %v: %v", patience, err)
		}
		<-tick.C
	}
}

func testEcho(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	for i, data := range []string{"hello", "", "null\x00byte and ünïcode \U0001F426", strings.Repeat("x", 100_000)} {
		if got := mustInvoke(t, f, i, program.Input{Op: program.OpEcho, Data: data}); got.Data != data {
			t.Errorf("echo of %.20q: got %.20q", data, got.Data)
		}
	}
}

func testContext(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	call := &plugins.Call{Body: []byte(`{"op":"context"}`)}
	call.RequestID, call.Attempt = requestID(t, 0), 3
	call.App, call.Function, call.Version, call.Node = "default", "conformance", 1, "node-7"
	call.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	call.ContentType = "application/json"
	call.Attributes = plugins.Attributes{{Name: "http.method", Value: "PUT"}}
	reply, err := f.Invoke(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	var got program.Seen
	if err := json.Unmarshal(reply.Body, &got); err != nil {
		t.Fatalf("output %.100q: %v", reply.Body, err)
	}
	if got.RemainingMS <= 0 || got.RemainingMS > patience.Milliseconds() {
		t.Errorf("remaining time of %d ms, want up to %v", got.RemainingMS, patience)
	}
	want := program.Seen{
		RequestID: call.RequestID, App: "default", Function: "conformance", Version: 1, Attempt: 3, Node: "node-7",
		Trace: call.Trace, ContentType: "application/json", Attributes: map[string]string{"http.method": "PUT"},
		RemainingMS: got.RemainingMS,
	}
	if target.lacks(TellsFullContext) {
		want.Attempt, want.Node, want.ContentType, want.Attributes = 0, "", "", nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the handler saw (-want +got):\n%s", diff)
	}
}

func testTypedError(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpError, Type: "NotFound", Data: "no such bird"})
	var function *plugins.FunctionError
	if !errors.As(err, &function) {
		t.Fatalf("got %v, want a *FunctionError", err)
	}
	unhandled := function.Unhandled && !target.lacks(TellsReturnedErrors)
	if function.Type != "NotFound" || function.Message != "no such bird" || unhandled {
		t.Errorf("got %+v", function)
	}
	mustWorkAgain(t, f)
}

func testPanic(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpPanic, Data: "fell off the perch"})
	var function *plugins.FunctionError
	if !errors.As(err, &function) {
		t.Fatalf("got %v, want a *FunctionError", err)
	}
	if !function.Unhandled || !strings.Contains(function.Message, "fell off the perch") || function.Stack == "" {
		t.Errorf("got %+v, want an unhandled error with message and stack", function)
	}
	mustWorkAgain(t, f)
}

func testExit(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpExit, N: 3})
	var exit *plugins.ExitError
	var function *plugins.FunctionError
	switch {
	case errors.As(err, &exit):
	case errors.As(err, &function):
		// Where each call is a program of its own, the program ends and not the instance. It must say how.
		if !function.Unhandled || !strings.Contains(function.Message, "3") {
			t.Errorf("got %+v, want an unhandled error that names the exit status", function)
		}
	default:
		t.Fatalf("got %v, want an *ExitError or a *FunctionError", err)
	}
	if errors.Is(err, plugins.ErrNotStarted) {
		t.Errorf("%v claims that the call did not start", err)
	}
	mustWorkAgain(t, f)
}

func testInitFailure(t *testing.T, target Target) {
	for _, mode := range []string{program.InitError, program.InitPanic} {
		f := target.Start(t, Options{Env: map[string]string{program.EnvInit: mode}})
		_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpEcho})
		var failed *plugins.InitError
		if !errors.As(err, &failed) {
			t.Fatalf("%s: got %v, want an *InitError", mode, err)
		}
		if !errors.Is(err, plugins.ErrNotStarted) {
			t.Errorf("%s: %v does not say that the call did not start", mode, err)
		}
		if !strings.Contains(failed.Message, "no nest") {
			t.Errorf("%s: got %+v", mode, failed)
		}
	}
}

func testInitExit(t *testing.T, target Target) {
	f := target.Start(t, Options{Env: map[string]string{program.EnvInit: program.InitExit}})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpEcho})
	if !errors.Is(err, plugins.ErrNotStarted) {
		t.Errorf("got %v, want ErrNotStarted", err)
	}
}

func testTimeout(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	mustInvoke(t, f, 0, program.Input{Op: program.OpEcho}) // So that the time below is not spent on the start.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := invokeContext(ctx, f, requestID(t, 1), program.Input{Op: program.OpHang})
	if err == nil || errors.Is(err, plugins.ErrNotStarted) {
		t.Fatalf("got %v, want an error that does not claim that the call did not start", err)
	}
	var function *plugins.FunctionError
	if errors.As(err, &function) {
		t.Errorf("got %v, which blames the function's own answer", err)
	}
	mustWorkAgain(t, f)
}

func testCancellation(t *testing.T, target Target) {
	// Two calls at once, so that a host which ends the instance of a cancelled call does not pass by that.
	f := target.Start(t, Options{Concurrency: 2})
	mustInvoke(t, f, 0, program.Input{Op: program.OpEcho})
	n := 0
	invokeNext := func(ctx context.Context, op string) (program.Output, error) {
		n++
		var out program.Output
		body, err := invokeContext(ctx, f, requestID(t, n), program.Input{Op: op})
		if err == nil {
			err = json.Unmarshal(body, &out)
		}
		return out, err
	}
	// A call that is cancelled before its handler waits may end without having seen it; how long it takes to get that
	// far is the machine's affair. So later attempts cancel later.
	for delay := 50 * time.Millisecond; delay < patience; delay *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		time.AfterFunc(delay, cancel)
		if _, err := invokeNext(ctx, program.OpWait); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want context.Canceled", err)
		}
		for range 20 {
			got, err := invokeNext(t.Context(), program.OpCancelled)
			if err != nil {
				t.Fatal(err)
			}
			if got.N > 0 {
				return
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	t.Error("the handler saw no cancellation")
}

func testLargeInput(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	frame := len(`{"op":"hash","data":""}`)
	data := strings.Repeat("0123456789abcdef", largeBody/16)[:largeBody-frame]
	got := mustInvoke(t, f, 0, program.Input{Op: program.OpHash, Data: data})
	sum := sha256.Sum256([]byte(data))
	if want := (program.Output{N: len(data), Data: hex.EncodeToString(sum[:])}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func testLargeOutput(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	body, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpProduce, N: largeBody})
	if err != nil {
		t.Fatal(err)
	}
	if len(body) != largeBody {
		t.Errorf("got %d bytes, want %d", len(body), largeBody)
	}
}

func testTooLargeOutput(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpProduce, N: largeBody + 1})
	var function *plugins.FunctionError
	if !errors.As(err, &function) || function.Type != "ResponseTooLarge" {
		t.Errorf("got %v, want a *FunctionError of type ResponseTooLarge", err)
	}
	mustWorkAgain(t, f)
}

// lines is the output of OpStream.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func testStream(t *testing.T, target Target) {
	f := target.Start(t, Options{Env: map[string]string{program.EnvStream: "1"}})
	// Some of several megabytes, so that flow control is needed, and one that ends before its first credit.
	for i, n := range []int{1, 300_000} {
		body, err := invoke(t, f, requestID(t, i), program.Input{Op: program.OpStream, N: n})
		if err != nil {
			t.Fatal(err)
		}
		if want := lines(n); string(body) != want {
			t.Errorf("%d lines: got %d bytes, want %d", n, len(body), len(want))
		}
	}
}

func testFailingStream(t *testing.T, target Target) {
	f := target.Start(t, Options{Env: map[string]string{program.EnvStream: "1"}})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpStream, N: 10, Type: "Torn", Data: "the paper ended"})
	var function *plugins.FunctionError
	if !errors.As(err, &function) || function.Type != "Torn" {
		t.Errorf("got %v, want a *FunctionError of type Torn", err)
	}
}

func testConcurrent(t *testing.T, target Target) {
	f := target.Start(t, Options{Concurrency: crowd})
	mustInvoke(t, f, 0, program.Input{Op: program.OpEcho})
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			if _, err := invoke(t, f, requestID(t, i+1), program.Input{Op: program.OpMeet, N: crowd}); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			// What a call is told about itself is its own, whoever else is told at that moment.
			id, got := requestID(t, crowd+i+1), program.Seen{}
			body, err := invoke(t, f, id, program.Input{Op: program.OpContext})
			if err == nil {
				err = json.Unmarshal(body, &got)
			}
			if err != nil || got.RequestID != id {
				t.Errorf("call %s was told that it is %q: %v", id, got.RequestID, err)
			}
		})
	}
	wg.Wait()
}

func testLogs(t *testing.T, target Target) {
	f := target.Start(t, Options{})
	for i := range 2 {
		mustInvoke(t, f, i, program.Input{Op: program.OpLog, Data: fmt.Sprintf("egg %d\nwith a second line", i)})
	}
	for i := range 2 {
		eventually(t, func() error {
			got, err := f.Logs(requestID(t, i))
			if err != nil {
				return err
			}
			want := fmt.Sprintf("egg %d\nwith a second line", i)
			if !slices.ContainsFunc(got, func(l plugins.LogLine) bool { return l.Message == want && l.Level == "info" }) {
				return fmt.Errorf("the lines of call %d are %+v, want %q among them", i, got, want)
			}
			if slices.ContainsFunc(got, func(l plugins.LogLine) bool { return strings.HasPrefix(l.Message, fmt.Sprint("egg ", 1-i)) }) {
				t.Errorf("the lines of call %d hold another call's: %+v", i, got)
			}
			return nil
		})
	}
}

func testEnvironment(t *testing.T, target Target) {
	f := target.Start(t, Options{Env: map[string]string{"NEST": "twigs = moss"}})
	if got := mustInvoke(t, f, 0, program.Input{Op: program.OpEnv, Data: "NEST"}); got.Data != "twigs = moss" {
		t.Errorf("got %q", got.Data)
	}
}

func testHostCall(t *testing.T, target Target) {
	id := requestID(t, 0)
	var calls atomic.Int64
	f := target.Start(t, Options{Host: func(_ context.Context, call *plugins.HostCall) (*plugins.HostReply, error) {
		calls.Add(1)
		if call.Op != plugins.OpInvoke || call.Target != "other:live" || call.RequestID != id {
			return nil, fmt.Errorf("unexpected host call %+v", call.HostRequest)
		}
		return &plugins.HostReply{Body: []byte("answer to " + string(call.Body))}, nil
	}})
	if got := mustInvoke(t, f, 0, program.Input{Op: program.OpInvoke, Type: "other:live", Data: "question"}); got.Data != "answer to question" {
		t.Errorf("got %q", got.Data)
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("the host saw %d calls, want 1", got)
	}
}

func testFailingHostCall(t *testing.T, target Target) {
	f := target.Start(t, Options{Host: func(context.Context, *plugins.HostCall) (*plugins.HostReply, error) {
		return nil, &plugins.FunctionError{Type: "NotFound", Message: "no such worm"}
	}})
	_, err := invoke(t, f, requestID(t, 0), program.Input{Op: program.OpInvoke, Type: "other", Data: "question"})
	var function *plugins.FunctionError
	if !errors.As(err, &function) || function.Type != "NotFound" {
		t.Errorf("got %v, want the other function's error", err)
	}
}

func testMemory(t *testing.T, target Target) {
	f := target.Start(t, Options{Memory: 64 << 20})
	if got := mustInvoke(t, f, 0, program.Input{Op: program.OpAllocate, N: 8 << 20}); got.N != 8<<20 {
		t.Errorf("got %+v", got)
	}
	if _, err := invoke(t, f, requestID(t, 1), program.Input{Op: program.OpAllocate, N: 512 << 20}); err == nil {
		t.Fatal("an instance of 64 MiB took 512 MiB")
	}
	mustWorkAgain(t, f)
}
