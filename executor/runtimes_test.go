//go:build linux && (amd64 || arm64)

package executor

import (
	"os"
	"testing"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/hosts"
)

// TestRuntimesConformance runs the suite against every runtime that the machine has, on
// the real executor. On a machine that lacks one it says so; in CI it fails.
func TestRuntimesConformance(t *testing.T) {
	t.Parallel()
	box := newSandbox(t)
	found, err := hosts.Detect(t.Context(), hosts.DetectConfig{
		DataDir: t.TempDir(), Sandbox: box, Sources: hosts.Sources(), Logger: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]hosts.Runtime{}
	for _, rt := range found {
		have[rt.Name] = rt
	}
	for _, tc := range []struct{ name, runtime, code, handler string }{
		{"python", "python", "../plugins/runtime/python/testdata/conformance", ""},
		{"nodejs modules", "nodejs", "../plugins/runtime/nodejs/testdata/conformance/esm", ""},
		{"nodejs CommonJS", "nodejs", "../plugins/runtime/nodejs/testdata/conformance/cjs", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rt, ok := have[tc.runtime]
			switch {
			case !ok && os.Getenv("CI") != "":
				t.Fatalf("this machine cannot host %s", tc.runtime)
			case !ok:
				t.Skipf("this machine cannot host %s", tc.runtime)
			}
			hostedRuntime{Runtime: rt, code: os.DirFS(tc.code), handler: tc.handler}.run(t)
		})
	}
}
