package node_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/covey-dev/covey/plugins/sdk/node"
)

// TestSDK runs the SDK's tests with it installed as npm would. The SDK inside of a function is tested with the runtime.
func TestSDK(t *testing.T) {
	t.Parallel()
	interpreter, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Node.js")
		}
		t.Skip("no Node.js")
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "node_modules"), node.Files()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, "--test", "sdk.test.mjs")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestFilesAreThePackage(t *testing.T) {
	t.Parallel()
	if err := fstest.TestFS(node.Files(), "covey/package.json", "covey/index.js", "covey/index.mjs", "covey/index.d.ts"); err != nil {
		t.Error(err)
	}
}
