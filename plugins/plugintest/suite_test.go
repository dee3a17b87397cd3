package plugintest_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestGoSDK runs the suite against the Go SDK, on a host that is as small as a host can be.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, plugintest.ProcessTarget(plugintest.Process{Command: []string{conformance(t)}}))
}

// TestGoRuntime runs it against a runtime: a process that is told what it is after it was started.
func TestGoRuntime(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, plugintest.ProcessTarget(plugintest.Process{
		Command: []string{conformance(t), program.ArgRuntime}, Setup: &plugins.Setup{Code: "/"},
	}))
}

// conformance builds the Go program under test.
func conformance(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "conformance")
	build := exec.Command("go", "build", "-o", bin, "github.com/covey-dev/covey/plugins/examples/conformance")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program under test: %v\n%s", err, out)
	}
	return bin
}
