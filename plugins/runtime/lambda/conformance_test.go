package lambda_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/lambda"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// envHost makes the test's own program the runtime's process.
const envHost = "COVEY_TEST_LAMBDA_HOST"

func TestMain(m *testing.M) {
	if os.Getenv(envHost) != "" {
		lambda.Main()
	}
	os.Exit(m.Run())
}

// beyondLambda is what Lambda's contract has no place for.
var beyondLambda = []plugintest.Capability{
	plugintest.ServesHostCalls, plugintest.TellsCancellation, plugintest.TellsFullContext,
}

// host is the runtime's process for a package.
func host(t testing.TB, setup *covey.Setup) plugintest.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return plugintest.Process{
		Command: []string{self},
		Env:     []string{envHost + "=1", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()},
		Setup:   setup,
	}
}

// target runs the suite's programs on the runtime.
func target(t *testing.T, setup *covey.Setup, lacks ...plugintest.Capability) plugintest.Target {
	t.Helper()
	out := plugintest.ProcessTarget(host(t, setup))
	out.Lacks = append(append(out.Lacks, beyondLambda...), lacks...)
	return out
}

// need skips a test that needs a program which the machine lacks. Where everything is tested, nothing may lack.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("this machine has no %s", program)
	}
	t.Skipf("this machine has no %s", program)
}

// folder returns a folder of testdata as a package's.
func folder(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build makes a package of a Go program.
func build(t testing.TB, pkg string) string {
	t.Helper()
	code := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", filepath.Join(code, "bootstrap"), pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return code
}

func TestGoConforms(t *testing.T) {
	t.Parallel()
	code := build(t, "github.com/covey-dev/covey/plugins/examples/lambda-conformance")
	plugintest.Run(t, target(t, &covey.Setup{Code: code}))
}

func TestPythonConforms(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	setup := &covey.Setup{Code: folder(t, "python"), Handler: "lambda_function.lambda_handler"}
	// AWS's Python runtime does not stream either.
	plugintest.Run(t, target(t, setup, plugintest.TellsReturnedErrors, plugintest.Streams))
}

func TestNodeConforms(t *testing.T) {
	t.Parallel()
	need(t, "node")
	setup := &covey.Setup{
		Code: folder(t, "node"), Handler: "index.handler",
		Env: frame.Attributes{{Name: "AWS_EXECUTION_ENV", Value: "AWS_Lambda_nodejs20.x"}},
	}
	plugintest.Run(t, target(t, setup, plugintest.TellsReturnedErrors))
}
