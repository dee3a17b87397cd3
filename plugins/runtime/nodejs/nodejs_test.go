package nodejs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/nodejs"
)

// interpreter finds Node.js, or skips the test; in CI it must be there. COVEY_TEST_NODE names another one to test with.
func interpreter(t testing.TB) string {
	t.Helper()
	candidates := nodejs.Interpreters()
	if other := os.Getenv("COVEY_TEST_NODE"); other != "" {
		candidates = []string{other}
	}
	for _, path := range candidates {
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

// install writes the runtime's files where an interpreter can read them: in a folder beside those of functions, as in
// the sandbox.
func install(t testing.TB) string {
	t.Helper()
	parent := t.TempDir()
	dir := filepath.Join(parent, "runtime")
	if err := os.CopyFS(dir, nodejs.Files()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("runtime", filepath.Join(parent, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// process is how the suite starts the runtime with code in it.
func process(t testing.TB, code string) plugintest.Process {
	t.Helper()
	path, err := filepath.Abs(code)
	if err != nil {
		t.Fatal(err)
	}
	return plugintest.Process{Command: nodejs.Command(interpreter(t), install(t)), Setup: &plugins.Setup{Code: path}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"cjs", "esm"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			plugintest.Run(t, plugintest.ProcessTarget(process(t, "testdata/conformance/"+form)))
		})
	}
}

func TestFilesAreWhole(t *testing.T) {
	t.Parallel()
	if err := fstest.TestFS(nodejs.Files(), "main.js", "covey/package.json", "covey/index.d.ts"); err != nil {
		t.Error(err)
	}
	err := fs.WalkDir(nodejs.Files(), ".", func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, "test") {
			t.Errorf("%s is no part of the runtime", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
