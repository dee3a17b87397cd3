package wasm

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// envBeRuntime makes the test binary the runtime, or with the value "floor" one that does nothing.
const envBeRuntime = "WASM_TEST_RUNTIME"

func TestMain(m *testing.M) {
	switch os.Getenv(envBeRuntime) {
	case "":
	case "floor":
		covey.ServeRuntime(func(context.Context, *covey.Setup) (covey.RuntimeHandler, error) {
			return func(context.Context, []byte, io.Writer) ([]byte, error) { return []byte("x"), nil }, nil
		})
	default:
		Main()
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the program under test and its compiled form, which all tests share.
var built struct {
	once      sync.Once
	dir       string
	err       error
	out       []byte
	prepare   sync.Once
	prepareTo string
}

// conformance returns a folder of code with the program under test.
func conformance(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "wasm"); built.err != nil {
			return
		}
		code := filepath.Join(built.dir, "code")
		build := exec.Command("go", "build", "-o", filepath.Join(code, "conformance.wasm"), "../stdio/testdata/conformance")
		build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		built.out, built.err = build.CombinedOutput()
	})
	if built.err != nil {
		t.Fatalf("build the program under test: %v\n%s", built.err, built.out)
	}
	return filepath.Join(built.dir, "code")
}

// prepared returns a folder with the compiled program under test, as a node makes one at a deploy.
func prepared(t testing.TB) string {
	t.Helper()
	code := conformance(t)
	built.prepare.Do(func() {
		built.prepareTo = filepath.Join(built.dir, "cache")
		prepare(t, code, built.prepareTo)
	})
	return built.prepareTo
}

// prepare compiles the code into the cache.
func prepare(t testing.TB, code, cache string) {
	t.Helper()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := newHost(t).become(context.Background(), &covey.Setup{Code: code, Cache: cache, Preparing: true}); err != nil {
		t.Fatal(err)
	}
}

// newHost returns the host as it waits for SETUP.
func newHost(t testing.TB) *host {
	t.Helper()
	e, err := newEngine(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.runtime.Close(context.Background()) })
	return &host{engine: e, log: stdio.NewLog(t.Output())}
}
