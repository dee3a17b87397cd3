// Package hashwasm_test tests the function hash, a WebAssembly module made from C, on the runtime that hosts it.
package hashwasm_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/wasm"
)

// envBeRuntime makes the test binary the runtime.
const envBeRuntime = "HASH_TEST_RUNTIME"

func TestMain(m *testing.M) {
	if os.Getenv(envBeRuntime) != "" {
		wasm.Main()
	}
	os.Exit(m.Run())
}

func TestHashIsSHA256(t *testing.T) {
	t.Parallel()
	target := plugintest.ProcessTarget(plugintest.Process{
		Command: []string{os.Args[0]}, Env: []string{envBeRuntime + "=1", "TMPDIR=" + t.TempDir()},
		Setup: &plugins.Setup{Code: "."},
	})
	f := target.Start(t, plugintest.Options{})
	random := rand.New(rand.NewPCG(1, 2))
	// Around the ends of blocks and of the module's buffer.
	for _, size := range []int{0, 1, 55, 56, 63, 64, 65, 119, 120, 1<<16 - 1, 1 << 16, 1<<16 + 1, 3<<16 + 57, 5 << 20} {
		event := make([]byte, size)
		for i := range event {
			event[i] = byte(random.Uint32())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		reply, err := f.Invoke(ctx, &plugins.Call{Body: event})
		cancel()
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		sum := sha256.Sum256(event)
		if got, want := string(reply.Body), hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%d bytes: got %s, want %s", size, got, want)
		}
		reply.Release()
	}
}
