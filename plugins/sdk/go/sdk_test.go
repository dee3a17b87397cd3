package covey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/covey-dev/covey/plugins/frame"
	"github.com/google/go-cmp/cmp"
)

// The process as a whole is tested by plugins/plugintest, which drives plugins/examples/conformance, and by
// plugins, which attaches go-plugin to examples. Here are the parts that need no process.

// TestFunctionsLinkLittle holds the promise that a cold start waits for: none of these may come back through
// an innocent import.
func TestFunctionsLinkLittle(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "github.com/covey-dev/covey/plugins/examples/echo").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, banned := range []string{"net/http", "net/rpc", "html/template", "crypto/tls", "encoding/gob"} {
		if slices.Contains(deps, banned) {
			t.Errorf("a function links %s", banned)
		}
	}
	allowed := []string{"github.com/covey-dev/covey/plugins/", "github.com/hashicorp/yamux"}
	for _, dep := range deps {
		if !strings.Contains(dep, ".") || strings.HasPrefix(dep, "vendor/") {
			continue // The standard library.
		}
		if !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
			t.Errorf("a function links %s", dep)
		}
	}
	if slices.Contains(deps, "github.com/covey-dev/covey/plugins") {
		t.Error("a function links the host side")
	}
}

func TestInvocationFromContext(t *testing.T) {
	t.Parallel()
	want := Invocation{RequestID: "r", App: "a", Function: "f", Version: 3, Attempt: 2, Attributes: map[string]string{"k": "v"}}
	var got Invocation
	head := frame.Invoke{RequestID: "r", App: "a", Function: "f", Version: 3, Attempt: 2, Attributes: frame.Attributes{{Name: "k", Value: "v"}}}
	got.fill(&head)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	type key struct{}
	type other struct{}
	ctx := context.WithValue(NewContext(context.WithValue(t.Context(), key{}, "kept"), want), other{}, 1)
	if diff := cmp.Diff(want, FromContext(ctx)); diff != "" || ctx.Value(key{}) != "kept" {
		t.Errorf("through derived contexts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Invocation{}, FromContext(t.Context())); diff != "" {
		t.Errorf("outside a handler: %s", diff)
	}
}

func TestSettersFillResult(t *testing.T) {
	t.Parallel()
	c := &call{Context: t.Context()}
	SetContentType(c, "image/jpeg")
	SetStatus(c, 201)
	SetStatus(c, 7) // Not a status.
	SetAttribute(c, "a", "1")
	SetAttribute(c, "a", "2")
	want := frame.Result{ContentType: "image/jpeg", Status: 201, Attributes: frame.Attributes{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}}
	if diff := cmp.Diff(want, c.result); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	SetContentType(t.Context(), "nowhere") // Must not panic.
}

func TestFailureOf(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		err  error
		want frame.Failure
	}{
		{"plain", errors.New("boom"), frame.Failure{Type: "errorString", Message: "boom"}},
		{"wrapped", fmt.Errorf("open: %w", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}), frame.Failure{Type: "errorString", Message: "open: open x: file does not exist"}},
		{"typed", Errorf("NotFound", "no %s", "bird"), frame.Failure{Type: "NotFound", Message: "no bird"}},
		{"typed inside", fmt.Errorf("look: %w", Errorf("NotFound", "no bird")), frame.Failure{Type: "NotFound", Message: "look: NotFound: no bird"}},
		{"panic", &panicError{value: 7, stack: "s"}, frame.Failure{Kind: frame.KindUnhandled, Type: "Panic", Message: "7", Stack: "s"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(&c.want, failureOf(c.err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestInvokeOutsideCallFails(t *testing.T) {
	t.Parallel()
	for _, ctx := range []context.Context{t.Context(), NewContext(t.Context(), Invocation{})} {
		if _, err := Invoke(ctx, "other", nil); err == nil || !strings.Contains(err.Error(), "other") {
			t.Errorf("got %v", err)
		}
	}
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := slog.New(&logHandler{inner: newJSONHandler(&out)})
	ctx := NewContext(t.Context(), Invocation{RequestID: "01J"})
	logger.WarnContext(ctx, "two\nlines", "n", 1, slog.Group("g", "time", 2))
	logger.With(requestIDKey, "02K").Debug("tagged by hand")
	logger.With(requestIDKey, "02K").InfoContext(ctx, "tagged twice")
	logger.Log(t.Context(), slog.LevelDebug-4, "unseen")
	want := []map[string]any{
		{"@level": "warn", "@message": "two\nlines", "request_id": "01J", "n": 1.0, "g": map[string]any{"time": 2.0}},
		{"@level": "debug", "@message": "tagged by hand", "request_id": "02K"},
		{"@level": "info", "@message": "tagged twice", "request_id": "02K"},
		{"@level": "trace", "@message": "unseen"},
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d lines: %s", len(lines), out.String())
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if got["@timestamp"] == nil {
			t.Errorf("line %d has no time", i)
		}
		delete(got, "@timestamp")
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestPanicBecomesError(t *testing.T) {
	t.Parallel()
	r := &runtime{run: func(*call) ([]byte, error) { panic("fell") }}
	if _, err := r.handlePlain(nil); err == nil || failureOf(err).Kind != frame.KindUnhandled {
		t.Errorf("got %v", err)
	}
}
