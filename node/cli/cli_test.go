package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"covey": func() { os.Exit(Run(context.Background(), System(), os.Args[1:])) },
	})
}

// TestScripts runs the command lines in testdata against a fake cluster and
// compares what people see. Rewrite the expectations with
// UPDATE_SCRIPTS=1.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition:     condition,
		Setup: func(env *testscript.Env) error {
			server := httptest.NewServer(fakeCluster())
			env.Defer(server.Close)
			env.Setenv("SERVER", server.URL)
			env.Setenv("COVEY_ADDR", server.URL)
			env.Setenv("COVEY_TOKEN", "secret")
			env.Setenv("TZ", "UTC")
			root, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			env.Setenv("ROOT", root)
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY", "GOTOOLCHAIN"} {
				if value := os.Getenv(name); value != "" {
					env.Setenv(name, value)
				}
			}
			env.Setenv("GOCACHE", goCache())
			return nil
		},
	})
}

// condition is [has:NAME]: the machine has a program, or for "root" the test is
// root. In CI it must.
func condition(name string) (bool, error) {
	what, ok := strings.CutPrefix(name, "has:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	has := os.Geteuid() == 0
	if what != "root" {
		_, err := exec.LookPath(what)
		has = err == nil
	}
	if !has && os.Getenv("CI") != "" {
		return false, fmt.Errorf("this machine has no %s", what)
	}
	return has, nil
}

// exits runs a command and wants its exit code: exits CODE COMMAND [ARG...].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// goCache keeps the build cache of the user, so that the build in a script does
// not begin with the standard library.
func goCache() string {
	if dir := os.Getenv("GOCACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return os.TempDir()
	}
	return dir + "/go-build"
}

// fakeCluster answers like a node, with fixed data.
func fakeCluster() http.Handler {
	mux := http.NewServeMux()
	reply := func(pattern string, status int, value any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, status, value) })
	}
	when := time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC)
	queue := uint32(128)
	spec := wire.FunctionSpec{
		Runtime: "go", MemoryBytes: 256 << 20, TimeoutMS: 30000, Concurrency: 1, Queue: &queue, Env: map[string]string{"KEY": wire.Redacted},
		Artifacts: []wire.Artifact{{OS: "linux", Arch: "amd64", Digest: "sha256:abc", Size: 3 << 20}},
	}
	version := wire.Version{App: "default", Function: "hello", Number: 2, Created: when, Aliases: []string{"live"}, Spec: spec}
	live := wire.Alias{Name: "live", Version: 2, Revision: 3, Updated: when}
	function := wire.Function{App: "default", Name: "hello", Latest: 2, Live: 2, Versions: 2, Updated: when, Aliases: []wire.Alias{live}}
	described := function
	described.Current = &version
	described.Placements = []wire.Placement{{
		Node: "n1", Name: "rack-1", Sandbox: "limited", Load: wire.Load{App: "default", Function: "hello", Version: 2, Instances: 1},
	}}

	reply("GET /v1/apps/default/functions", 200, wire.List[wire.Function]{Items: []wire.Function{function}})
	reply("GET /v1/apps/default/functions/hello", 200, described)
	reply("GET /v1/apps/default/functions/hello/versions", 200, wire.List[wire.Version]{Items: []wire.Version{version}})
	reply("GET /v1/apps/default/functions/hello/aliases", 200, wire.List[wire.Alias]{Items: []wire.Alias{live}})
	mux.HandleFunc("POST /v1/apps/default/functions/hello/versions/{version}/warm", fakeWarm)
	mux.HandleFunc("GET /v1/apps/default/functions/fresh", func(w http.ResponseWriter, _ *http.Request) { fail(w, 404, wire.CodeNotFound) })
	reply("DELETE /v1/apps/default/functions/hello", 204, nil)
	reply("POST /v1/apps/default/functions/hello/rollback", 200, wire.Alias{Name: "live", Version: 1, Revision: 4, Updated: when})
	reply("GET /v1/tokens", 200, wire.List[wire.Token]{Items: []wire.Token{{ID: "t1", Kind: "api", Scopes: []string{"admin"}, Description: "first"}}})
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		var in wire.TokenRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		made := wire.NewToken{Token: wire.Token{ID: "t2"}, Secret: "covey_new"}
		if in.Kind == wire.KindAWSKey {
			made = wire.NewToken{Token: wire.Token{ID: "CVKA2", Kind: in.Kind, App: in.App}, Secret: "a+b/c"}
		}
		writeJSON(w, 201, made)
	})
	reply("POST /v1/join-tokens", 201, wire.JoinToken{Token: "K10join"})
	reply("DELETE /v1/tokens/t1", 204, nil)
	reply("POST /v1/nodes/rack-1/drain", 204, nil)
	reply("GET /v1/nodes", 200, wire.List[wire.NodeStatus]{Items: []wire.NodeStatus{
		{ID: "n1", Name: "rack-1", Role: "voter", Leader: true, Alive: true, API: "10.0.0.1:7070", Sandbox: "limited", MemoryBudgetBytes: 1 << 30, MemoryUsedBytes: 64 << 20, Runtimes: []string{"go", "python"}, Labels: map[string]string{"zone": "a", "disk": "ssd"}},
		{ID: "n2", Name: "rack-2", Role: "standby", API: "10.0.0.2:7070", Sandbox: "hidden", Warnings: []string{"no pid namespaces"}},
	}})
	reply("GET /v1/status", 200, wire.Status{ClusterID: "c1", Node: "n1", Name: "rack-1", Role: "voter", Quorum: false, Voters: 1, Alive: 1, Started: when})
	reply("GET /v1/usage", 200, wire.UsageReport{Missing: []string{"rack-2"}, Rows: []wire.UsageRow{
		{App: "default", Function: "hello", Hour: when, Invocations: 2, BilledMS: 1000, MemoryMiBMS: 1024000, BytesIn: 10, BytesOut: 2048},
		{App: "default", Function: "hello", Hour: when.Add(time.Hour), Invocations: 1, BilledMS: 500, MemoryMiBMS: 512000},
	}})
	mux.HandleFunc("GET /v1/top", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Asked", r.URL.RawQuery)
		writeJSON(w, 200, busyTop(r.URL.Query().Get("interval")))
	})
	reply("GET /v1/explain/r1", 200, wire.Record{
		RequestID: "r1", App: "default", Function: "hello", Version: 2, Caller: "t1", Entry: "n1", Start: when, Took: 12 * time.Millisecond,
		Outcome: "ok", BytesIn: 3, BytesOut: 4, Usage: wire.Usage{Billed: 10 * time.Millisecond, CPU: time.Millisecond, MemoryPeak: 8 << 20, MemoryLimit: 256 << 20},
		Attempts: []wire.AttemptRecord{
			{Node: "n2", Reason: "idle", Took: time.Millisecond, Error: "its queue is full"},
			{Node: "n9", Reason: "a word of a newer node", Took: time.Millisecond, Error: "connection reset", Started: true},
			{Node: "n1", Reason: "only", Cold: true, Took: 10 * time.Millisecond, Steps: []wire.Step{
				{Name: "place", Took: 2 * time.Millisecond},
				{Name: "fetch", Took: 500 * time.Microsecond},
				{Name: "spawn", Took: 700 * time.Microsecond},
				{Name: "handshake", Took: 200 * time.Microsecond},
				{Name: "init", Took: 100 * time.Microsecond},
				{Name: "run", Took: 8 * time.Millisecond},
			}},
		},
	})
	mux.HandleFunc("GET /v1/apps/default/functions/hello/logs", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, 200, wire.LogLine{Time: when, App: "default", Function: "hello", Version: 2, RequestID: r.URL.Query().Get("request"), Stream: "stderr", Level: "info", Text: "a line"})
	})
	mux.HandleFunc("GET /v1/backup", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "all of it") })
	mux.HandleFunc("POST /v1/code", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		writeJSON(w, 201, wire.Upload{Digest: "sha256:abc", Size: n})
	})
	mux.HandleFunc("PUT /v1/apps/{app}/functions/{name}", fakeDeploy)
	mux.HandleFunc("PUT /v1/apps/default/functions/hello/aliases/{alias}", func(w http.ResponseWriter, r *http.Request) {
		var in wire.AliasChange
		_ = json.NewDecoder(r.Body).Decode(&in)
		writeJSON(w, 200, wire.Alias{Name: r.PathValue("alias"), Version: in.Version, Other: in.Other, OtherWeight: in.OtherWeight})
	})
	mux.HandleFunc("POST /v1/apps/default/functions/{name}/invocations", fakeInvoke)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fail(w, 404, wire.CodeNotFound) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			fail(w, 401, wire.CodeUnauthenticated)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if value != nil {
		_ = json.NewEncoder(w).Encode(value)
	}
}

func fail(w http.ResponseWriter, status int, code wire.Code) {
	w.Header().Set(wire.HeaderError, string(code))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	p := wire.Problem{Status: status, Code: code, Detail: "the server says so", RequestID: "r9", Resend: wire.ResendNo}
	if code == wire.CodeFunctionError {
		p.Error = &wire.FunctionError{Type: "Oops", Message: "it broke", Stack: []string{"main.go:3"}}
	}
	_ = json.NewEncoder(w).Encode(p)
}

// fakeDeploy answers with what it was asked for, so that a script sees it.
func fakeDeploy(w http.ResponseWriter, r *http.Request) {
	var in wire.DeployRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, 400, wire.CodeBadRequest)
		return
	}
	out := wire.Deployed{Version: wire.Version{App: r.PathValue("app"), Function: r.PathValue("name"), Number: 3, Spec: in.FunctionSpec}}
	if in.Runtime == "nodejs" {
		out.Warnings = []string{"only 1 of 2 nodes can run it (rack-1); rack-2: no nodejs, only go"}
	}
	writeJSON(w, 201, out)
}

// fakeWarm has version 3 warm the second time it is asked, with as many instances as
// are there on auto, and never gets version 9 to start.
func fakeWarm(w http.ResponseWriter, r *http.Request) {
	var in wire.WarmRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, 400, wire.CodeBadRequest)
		return
	}
	at := wire.WarmNode{Node: "n1", Name: "rack-1", Wanted: max(in.Instances, 1), Starting: 1}
	switch {
	case r.PathValue("version") == "9":
		at.Problem, at.Failed = "exit code 1 before it was ready", true
	case len(in.Nodes) > 0:
		at.Ready = at.Wanted
	}
	writeJSON(w, 200, wire.WarmReport{Ready: at.Ready == at.Wanted, Failed: at.Failed, Nodes: []wire.WarmNode{at}})
}

// fakeInvoke plays the function that its name says.
func fakeInvoke(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch name := r.PathValue("name"); name {
	case "hello":
		h := w.Header()
		h.Set(wire.HeaderRequestID, r.Header.Get(wire.HeaderRequestID))
		h.Set(wire.HeaderVersion, "default/hello:2")
		h.Set(wire.HeaderNode, "n1")
		h.Set(wire.HeaderStart, "warm")
		h.Set("Server-Timing", "queue;dur=0.100, run;dur=2.000")
		fmt.Fprintf(w, "got %s%s%s%s", body, r.Header.Get(wire.HeaderAttributePrefix+"Width"), r.URL.Query().Get("qualifier"), r.Header.Get(wire.HeaderKey))
	case "broken":
		fail(w, 500, wire.CodeFunctionError)
	case "busy":
		fail(w, 429, wire.CodeBusy)
	case "denied":
		fail(w, 403, wire.CodeDenied)
	case "slow":
		fail(w, 504, wire.CodeTimeout)
	case "taken":
		fail(w, 409, wire.CodeConflict)
	default:
		fail(w, 404, wire.CodeNotFound)
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	t.Parallel()
	a := &app{env: System()}
	for _, c := range a.root().Commands() {
		for _, cmd := range append(c.Commands(), c) {
			if cmd.Name() == "help" || cmd.Name() == "completion" || cmd.Parent().Name() == "completion" {
				continue
			}
			if cmd.Short == "" || cmd.RunE != nil && cmd.Example == "" {
				t.Errorf("%s has no short help or no example", cmd.CommandPath())
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), nil, ExitOK},
		{t.Context(), errors.New("x"), ExitFailure},
		{t.Context(), usagef("x"), ExitUsage},
		{t.Context(), fmt.Errorf("x: %w", client.ErrNotFound), ExitNotFound},
		{t.Context(), fmt.Errorf("x: %w", client.ErrDenied), ExitDenied},
		{t.Context(), fmt.Errorf("x: %w", client.ErrConflict), ExitConflict},
		{t.Context(), &client.UnreachableError{Err: io.EOF}, ExitUnavailable},
		{t.Context(), &client.UnreachableError{Err: context.DeadlineExceeded}, ExitTimeout},
		{t.Context(), client.ErrBusy, ExitUnavailable},
		{t.Context(), client.ErrFunction, ExitFunction},
		{interrupted, errors.New("x"), ExitInterrupted},
		{interrupted, nil, ExitOK},
	} {
		if got := exitCode(tc.ctx, tc.err); got != tc.want {
			t.Errorf("%v: exit code %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{"0": 0, "100": 100, "64MiB": 64 << 20, "64M": 64 << 20, "1g": 1 << 30, "2 KiB": 2048} {
		var b bytesValue
		if err := b.Set(text); err != nil || uint64(b) != want {
			t.Errorf("%s is %d, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5G", "1TiB", "1MM", "99999999999999999999", "9000000000G"} {
		var b bytesValue
		if b.Set(text) == nil {
			t.Errorf("%q passes as %d", text, b)
		}
	}
	if got := size(1536) + " " + size(1<<30) + " " + size(5); got != "1.5 KiB 1 GiB 5 B" {
		t.Error(got)
	}
}

func TestCompletionIsGenerated(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var out strings.Builder
		env := Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard, LookupEnv: func(string) (string, bool) { return "", false }}
		if code := Run(t.Context(), env, []string{"completion", shell}); code != ExitOK || out.Len() < 1000 {
			t.Errorf("%s: exit code %d, %d bytes", shell, code, out.Len())
		}
	}
}
