package python_test

import (
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/covey-dev/covey/plugins/sdk/python"
)

// interpreter is the Python that Debian installs.
const interpreter = "/usr/bin/python3"

// TestUnits runs the SDK's own tests, which are written in Python.
func TestUnits(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(interpreter); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("needs Python: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, "-S", "-B", "-W", "error", "-m", "unittest", "discover", "-s", "tests")
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "Ran 0 tests") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFilesHoldThePackage(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(python.Files(), "covey/*.py")
	if err != nil || len(names) < 5 {
		t.Errorf("got %v, %v", names, err)
	}
}
