//go:build linux && (amd64 || arm64)

package executor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// A caller that leaves costs nobody else anything: the function hears of it, and
// its instance stays.
func TestCancelledCallKeepsItsRealInstance(t *testing.T) {
	t.Parallel()
	binary(t, "conformance")
	e := newReal(t, newSandbox(t), nil)
	spec := realSpec("conformance", func(s *Spec) { s.Max = 1 })
	warm, err := e.Invoke(t.Context(), spec, operation(t, "warm", program.Input{Op: program.OpEcho}))
	if err != nil {
		t.Fatal(err)
	}
	warm.Release()
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := e.Invoke(ctx, spec, operation(t, "left", program.Input{Op: program.OpWait})); !errors.Is(err, context.Canceled) {
			t.Fatalf("the cancelled call got %v", err)
		}
		resp, err := e.Invoke(t.Context(), spec, operation(t, "next", program.Input{Op: program.OpCancelled}))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Cold {
			t.Errorf("cancellation %d cost the instance", i)
		}
		resp.Release()
	}
	if load := e.Load(spec.Key); load.Instances != 1 || load.Free != 1 {
		t.Errorf("load afterwards is %+v", load)
	}
}
