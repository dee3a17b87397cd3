package executor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "covey-executor")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	examples.dir = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// examples builds the example functions, each once for all tests.
var examples exampleBuilder

type exampleBuilder struct {
	dir string
	mu  sync.Mutex
}

// build returns the path of an example's binary.
func (b *exampleBuilder) build(name string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	path := filepath.Join(b.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	cmd := exec.Command("go", "build", "-o", path, "github.com/covey-dev/covey/plugins/examples/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// binary builds an example, so that the time is not spent in a start.
func binary(t testing.TB, name string) string {
	t.Helper()
	path, err := examples.build(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
