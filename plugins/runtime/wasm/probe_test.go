package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// probe returns the handler of one of the modules in testdata (probe.c), as it serves.
func probe(t testing.TB, module string, change func(*covey.Setup)) (covey.RuntimeHandler, error) {
	t.Helper()
	s := &covey.Setup{Code: "testdata", Handler: module, Concurrency: 1}
	if change != nil {
		change(s)
	}
	return newHost(t).become(context.Background(), s)
}

func mustProbe(t testing.TB, module string, change func(*covey.Setup)) covey.RuntimeHandler {
	t.Helper()
	handler, err := probe(t, module, change)
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

// do runs one call.
func do(ctx context.Context, handler covey.RuntimeHandler, event string) (string, error) {
	out, err := handler(covey.NewContext(ctx, covey.Invocation{RequestID: "r", Attempt: 1}), []byte(event), nil)
	return string(out), err
}

func TestCallsAtOnceHaveTheirOwnEnvironment(t *testing.T) {
	t.Parallel()
	// Three variables, so that a list of them has room for more.
	env := frame.Attributes{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "C", Value: "3"}}
	handler, err := newHost(t).become(t.Context(), &covey.Setup{Code: conformance(t), Cache: prepared(t), Env: env, Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for caller := range 4 {
		calls.Go(func() {
			for i := range 5 {
				id := fmt.Sprintf("%d-%d", caller, i)
				ctx := covey.NewContext(t.Context(), covey.Invocation{RequestID: id, Attempt: 1})
				out, err := handler(ctx, []byte(`{"op":"env","data":"COVEY_REQUEST_ID"}`), nil)
				if want := fmt.Sprintf(`"data":%q`, id); err != nil || !strings.Contains(string(out), want) {
					t.Errorf("call %s: got %s, %v", id, out, err)
				}
			}
		})
	}
	calls.Wait()
}

func TestErrorsOfModules(t *testing.T) {
	t.Parallel()
	handler := mustProbe(t, "probe.wasm", nil)
	for _, c := range []struct {
		name, event        string
		typ, message       string
		stack              string
		unhandled, success bool
	}{
		{name: "typed", event: "f", typ: "NotFound", message: "no such worm"},
		{name: "exit status", event: "x", typ: "ExitCode", message: "exit status 7: leaving", unhandled: true},
		{name: "trap", event: "t", typ: "Trap", message: "unreachable", stack: "_start", unhandled: true},
		{name: "what was written before a trap", event: "t", typ: "Trap", message: "about to fall", unhandled: true},
		{name: "address outside of the memory", event: "w", typ: "Trap", message: "outside of the memory", stack: "_start", unhandled: true},
		{name: "nothing to say", event: "", success: true},
	} {
		_, err := do(t.Context(), handler, c.event)
		var failure *covey.Error
		if c.success != (err == nil) || err != nil && !errors.As(err, &failure) {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		if err != nil && (failure.Type != c.typ || failure.Unhandled != c.unhandled ||
			!strings.Contains(failure.Message, c.message) || !strings.Contains(failure.Stack, c.stack)) {
			t.Errorf("%s: got %+v", c.name, failure)
		}
	}
}

func TestModulesThatCannotServe(t *testing.T) {
	t.Parallel()
	none, garbage := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(garbage, "a.wasm"), []byte("\x00asm\x01\x00\x00\x00\x0a\xff"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, code, handler, want string }{
		{"no module", none, "", "the code has: "},
		{"several modules", "testdata", "", "large.wasm, library.wasm"},
		{"missing", "testdata", "absent.wasm", "absent.wasm"},
		{"outside", "testdata", "../probe.wasm", "leads out"},
		{"quote", "testdata", "'probe.wasm", "quote"},
		{"no command", "testdata", "library.wasm", "exports no function _start"},
		{"unknown import", "testdata", "stranger.wasm", "elsewhere.missing"},
		{"cut off", garbage, "", "cut off"},
		{"no WebAssembly", "testdata", "probe.c", "no WebAssembly"},
	} {
		_, err := newHost(t).become(context.Background(), &covey.Setup{Code: c.code, Handler: c.handler})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.want)
		}
	}
}

// TestModulesAreEnded cancels calls that would run for ever, in a loop, in a recursion and in a sleep. The process
// goes on.
func TestModulesAreEnded(t *testing.T) {
	t.Parallel()
	handler := mustProbe(t, "probe.wasm", nil)
	for _, event := range []string{"l", "r", "s"} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		begin := time.Now()
		if _, err := do(ctx, handler, event); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that it was cancelled", event, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: it took %v to end the module", event, took)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
		if _, err := do(ctx, handler, event); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want that its time was over", event, err)
		}
		cancel()
	}
	if _, err := do(t.Context(), handler, ""); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestMemoryIsLimited(t *testing.T) {
	t.Parallel()
	handler := mustProbe(t, "probe.wasm", func(s *covey.Setup) { s.Memory = hostMemory + 2<<20 })
	// Twice, because what the first took must be free again.
	for range 2 {
		if pages, err := do(t.Context(), handler, "g"); err != nil || pages != "32" {
			t.Errorf("the module got %s pages of 64 KiB (%v), want 32", pages, err)
		}
	}
	handler = mustProbe(t, "large.wasm", func(s *covey.Setup) { s.Memory = hostMemory + 2<<20 })
	if _, err := do(t.Context(), handler, ""); err == nil || !strings.Contains(err.Error(), "OutOfMemory") {
		t.Errorf("a module that begins with 64 MiB: got %v, want that it got no memory", err)
	}
}

func TestFilesOfModules(t *testing.T) {
	t.Parallel()
	handler := mustProbe(t, "probe.wasm", nil)
	name := filepath.Base(t.TempDir())
	for _, c := range []struct{ name, event, want string }{
		{"the code", "or" + "probe.c", "0"},
		{"writing to the code", "oc" + name, "52"}, // ENOSYS, wazero's word for read-only
		{"what is above the code", "or" + "../main.go", "63"},
	} {
		if got, err := do(t.Context(), handler, c.event); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, err, c.want)
		}
	}
	if got, err := do(t.Context(), handler, "ot"+name); err != nil || got != "0" {
		t.Errorf("writing to /tmp: got %s, %v", got, err)
	}
	if err := os.Remove(filepath.Join(os.TempDir(), name)); err != nil {
		t.Error(err)
	}
}
