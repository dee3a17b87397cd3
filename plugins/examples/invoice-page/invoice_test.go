package invoicepage_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/nodejs"
)

// interpreter finds Node.js, or skips the test; in CI it must be there.
func interpreter(t *testing.T) string {
	t.Helper()
	for _, path := range nodejs.Interpreters() {
		if probe := nodejs.Probe(path); exec.Command(probe[0], probe[1:]...).Run() == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("no Node.js of version 18 or newer")
	}
	t.Skip("no Node.js of version 18 or newer")
	return ""
}

// install lays the function and the runtime side by side and returns both folders.
func install(t *testing.T) (code, runtime string) {
	t.Helper()
	dir := t.TempDir()
	code, runtime = filepath.Join(dir, "task"), filepath.Join(dir, "runtime")
	if err := os.CopyFS(code, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(runtime, nodejs.Files()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("runtime", filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return code, runtime
}

// TestUnits runs the function's own tests, as its author would.
func TestUnits(t *testing.T) {
	t.Parallel()
	node := interpreter(t)
	code, _ := install(t)
	cmd := exec.Command(node, "--test", "index.test.js")
	cmd.Dir = code
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestInRuntime runs the function as a node does.
func TestInRuntime(t *testing.T) {
	t.Parallel()
	node := interpreter(t)
	code, runtime := install(t)
	target := plugintest.ProcessTarget(plugintest.Process{Command: nodejs.Command(node, runtime), Setup: &plugins.Setup{Code: code}})
	f := target.Start(t, plugintest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	call := &plugins.Call{Body: []byte(`{"number":"7","date":"2026-01-31","lines":[{"text":"Seed <fine>","quantity":1000,"price":1.5}]}`)}
	call.RequestID = "page"
	reply, err := f.Invoke(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	page := string(reply.Body)
	if reply.ContentType != "text/html; charset=utf-8" || reply.Attributes.Get("gross") != "1500.00" ||
		!strings.Contains(page, "<td>Seed &lt;fine&gt;</td><td class=\"n\">1,000</td>") || !strings.Contains(page, "€1,500.00") {
		t.Errorf("got %+v\n%s", reply.Result, page)
	}
}
