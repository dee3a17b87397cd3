package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// envBeRuntime makes the test binary the runtime.
const envBeRuntime = "COMMAND_TEST_RUNTIME"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envBeServer) != "" && os.Getenv(envPort) != "":
		serveTest()
		os.Exit(1)
	case os.Getenv(envBeRuntime) != "":
		Main()
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the program under test, which all tests share.
var built struct {
	once sync.Once
	dir  string
	err  error
	out  []byte
}

// conformance returns a folder of code with the program under test.
func conformance(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "command"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(built.dir, "conformance"), "../stdio/testdata/conformance")
		built.out, built.err = build.CombinedOutput()
	})
	if built.err != nil {
		t.Fatalf("build the program under test: %v\n%s", built.err, built.out)
	}
	return built.dir
}
