package python_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/python"
)

// interpreter is the Python that Debian installs, which functions in a sandbox see too.
const interpreter = "/usr/bin/python3"

// needPython skips the test where there is no interpreter, and fails it where there must be one.
func needPython(t testing.TB) {
	t.Helper()
	probe := python.Probe(interpreter)
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: %v\n%s", interpreter, err, out)
		}
		t.Skipf("needs Python 3.9 at %s: %v", interpreter, err)
	}
}

// installed is the folder with the runtime, which all tests of this package share.
var installed = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "covey-python")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(dir, python.Files()); err != nil {
		return dir, err
	}
	compile := python.Compile(interpreter, dir)
	if out, err := exec.Command(compile[0], compile[1:]...).CombinedOutput(); err != nil {
		return dir, fmt.Errorf("compile the runtime: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := installed(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// install unpacks the runtime as a node does.
func install(t testing.TB) string {
	t.Helper()
	needPython(t)
	dir, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// target is the runtime with one of the programs under testdata.
func target(t *testing.T, folder, handler string) plugintest.Target {
	t.Helper()
	code, err := filepath.Abs(filepath.Join("testdata", folder))
	if err != nil {
		t.Fatal(err)
	}
	return plugintest.ProcessTarget(plugintest.Process{
		Command: python.Command(interpreter, install(t)),
		Setup:   &plugins.Setup{Code: code, Handler: handler, Env: frame.Attributes{{Name: "TZ", Value: "UTC"}}},
	})
}

// TestConformance runs the whole suite against a function with plain handlers.
func TestConformance(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, target(t, "conformance", ""))
}

// TestConformanceOfAsyncHandlers runs it against one with an async handler.
func TestConformanceOfAsyncHandlers(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, target(t, "conformance", "coroutine.handler"))
}
