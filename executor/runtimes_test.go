//go:build linux && (amd64 || arm64)

package executor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/plugins/plugintest"
)

// TestRuntimesConformance runs the suite against every runtime that the machine has, on
// the real executor. On a machine that lacks a runtime it says so; in CI it fails.
func TestRuntimesConformance(t *testing.T) {
	t.Parallel()
	have := detected(t)
	programs := t.TempDir() // those that are compiled
	goBuild(t, filepath.Join(programs, "native/conformance"), "../plugins/runtime/stdio/testdata/conformance")
	goBuild(t, filepath.Join(programs, "wasm/conformance.wasm"), "../plugins/runtime/stdio/testdata/conformance", "GOOS=wasip1", "GOARCH=wasm")
	goBuild(t, filepath.Join(programs, "lambda/bootstrap"), "../plugins/examples/lambda-conformance")
	beyondLambda := []plugintest.Capability{plugintest.ServesHostCalls, plugintest.TellsCancellation, plugintest.TellsFullContext}
	for _, tc := range []struct {
		name, code string
		hostedRuntime
	}{
		{"python", "../plugins/runtime/python/testdata/conformance", hostedRuntime{Runtime: have["python"]}},
		{"python coroutines", "../plugins/runtime/python/testdata/conformance", hostedRuntime{Runtime: have["python"], handler: "coroutine.handler"}},
		{"nodejs modules", "../plugins/runtime/nodejs/testdata/conformance/esm", hostedRuntime{Runtime: have["nodejs"]}},
		{"nodejs CommonJS", "../plugins/runtime/nodejs/testdata/conformance/cjs", hostedRuntime{Runtime: have["nodejs"]}},
		{"exec processes", programs + "/native", hostedRuntime{
			Runtime: have["exec"], handler: "conformance", env: map[string]string{"COVEY_EXEC_INIT": "1"}, stream: "COVEY_EXEC_STREAM",
			memory: 1 << 30,
		}},
		{"exec servers", programs + "/native", hostedRuntime{
			Runtime: have["exec"], handler: "conformance", env: map[string]string{"COVEY_EXEC_MODE": "http"},
		}},
		{"wasm", programs + "/wasm", hostedRuntime{
			Runtime: have["wasm"], env: map[string]string{"COVEY_WASM_INIT": "1"}, stream: "COVEY_WASM_STREAM", memory: 1 << 30,
		}},
		{"lambda Go", programs + "/lambda", hostedRuntime{Runtime: have["lambda"], lacks: beyondLambda, memory: 1 << 30}},
		{"lambda Python", "../plugins/runtime/lambda/testdata/python", hostedRuntime{
			Runtime: have["lambda"], handler: "lambda_function.lambda_handler", memory: 1 << 30,
			lacks: append(beyondLambda, plugintest.TellsReturnedErrors, plugintest.Streams),
		}},
		{"lambda Node.js", "../plugins/runtime/lambda/testdata/node", hostedRuntime{
			Runtime: have["lambda"], handler: "index.handler", lacks: append(beyondLambda, plugintest.TellsReturnedErrors),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			switch {
			case tc.Name == "" && os.Getenv("CI") != "":
				t.Fatal("this machine cannot host the runtime")
			case tc.Name == "":
				t.Skip("this machine cannot host the runtime")
			}
			tc.hostedRuntime.code = os.DirFS(tc.code)
			tc.run(t)
		})
	}
}

// detected returns the machine's runtimes by name; the covey binary is built for those
// that it hosts itself.
func detected(t *testing.T) map[string]hosts.Runtime {
	t.Helper()
	path := filepath.Join(t.TempDir(), "covey")
	goBuild(t, path, "../cmd/covey")
	program, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	found, err := hosts.Detect(t.Context(), hosts.DetectConfig{
		DataDir: t.TempDir(), Sandbox: newSandbox(t), Program: program, Sources: hosts.Sources(), Logger: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]hosts.Runtime{}
	for _, rt := range found {
		have[rt.Name] = rt
	}
	return have
}

// goBuild builds a program for instances to run.
func goBuild(t *testing.T, path, pkg string, env ...string) {
	t.Helper()
	build := exec.Command("go", "build", "-o", path, pkg)
	build.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
}
