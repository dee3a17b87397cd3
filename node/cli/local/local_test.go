package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/plugins"
)

func TestProblemsAreTheClusters(t *testing.T) {
	t.Parallel()
	initial := &plugins.InitError{Type: "SyntaxError", Message: "m", Stack: "a\nb\n"}
	for _, tc := range []struct {
		err    error
		status int
		code   wire.Code
		stack  int
	}{
		{&plugins.FunctionError{Type: "T", Message: "m", Stack: "a\nb"}, 500, wire.CodeFunctionError, 2},
		{&executor.StartError{Reason: "r", Log: "l", Err: initial}, 503, wire.CodeStartFailed, 2},
		{&executor.StartError{Reason: "r", Log: "l", Err: errors.New("x")}, 503, wire.CodeStartFailed, -1},
		{&executor.CrashLoopError{}, 503, wire.CodeStartFailed, -1},
		{executor.ErrTimeout, 504, wire.CodeTimeout, -1},
		{fmt.Errorf("x: %w", executor.ErrQueueFull), 429, wire.CodeBusy, -1},
		{executor.ErrDraining, 503, wire.CodeDraining, -1},
		{context.Canceled, 499, wire.CodeCanceled, -1},
		{&http.MaxBytesError{Limit: 1}, 413, wire.CodeTooLarge, -1},
		{&plugins.ExitError{Cause: errors.New("exited")}, 500, wire.CodeFunctionError, 0},
		{errors.New("x"), 500, wire.CodeInternal, -1},
	} {
		p := Problem(tc.err, "r1")
		stack := -1
		if p.Error != nil {
			stack = len(p.Error.Stack)
		}
		if p.Status != tc.status || p.Code != tc.code || stack != tc.stack || p.RequestID != "r1" || p.Detail == "" {
			t.Errorf("%v: %+v", tc.err, p)
		}
	}
}

func TestOnlyThisMachineIsAnswered(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host, origin string
		want         bool
	}{
		{"127.0.0.1:1", "", true},
		{"localhost:1", "http://localhost:3000", true},
		{"[::1]:1", "", true},
		{"127.0.0.1", "", true},
		{"rebound.example:1", "", false},
		{"127.0.0.1:1", "https://evil.example", false},
		{"127.0.0.1:1", "null", false},
		{"127.0.0.1.evil.example:1", "", false},
		{"10.0.0.1:1", "", false},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(""))
		r.Host = tc.host
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		if got := ours(r); got != tc.want {
			t.Errorf("%s from %q: %v", tc.host, tc.origin, got)
		}
	}
}

func TestAttributesOfARequest(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("PUT", "/a/b?c=1", nil)
	r.Header.Set(wire.HeaderAttributePrefix+"Width", "200")
	r.Header.Set("X-Mine", "y")
	got := attributes(r)
	if got["http-method"] != "PUT" || got["http-path"] != "/a/b" || got["http-query"] != "c=1" || got["width"] != "200" || got["http-header-x-mine"] != "y" {
		t.Errorf("got %v", got)
	}
	r = httptest.NewRequest("POST", "/v1/functions/f/invocations", nil)
	if got := attributes(r); len(got) != 0 {
		t.Errorf("the cluster's own route gives %v", got)
	}
}

func TestEveryRuntimeCanBeRunHere(t *testing.T) {
	t.Parallel()
	known := []string{manifest.Go}
	for _, src := range hosts.Sources() {
		known = append(known, src.Name)
	}
	want := manifest.Runtimes()
	slices.Sort(known)
	slices.Sort(want)
	if !slices.Equal(known, want) {
		t.Errorf("nodes can host %v, the command line knows %v", known, want)
	}
}

// write makes a file and the folders above it.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherSeesWhatMatters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.py", "1")
	write(t, dir, "lib/b.py", "1")
	write(t, dir, "node_modules/x/index.js", "1")
	w, err := NewWatcher(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	before, err := w.Look()
	if err != nil || len(before) != 2 {
		t.Fatalf("%v, %v", before, err)
	}
	step := func(want []string, change func()) {
		t.Helper()
		// What is passed over comes first, and is not told.
		write(t, dir, "__pycache__/a.pyc", time.Now().String())
		write(t, dir, ".a.py.swp", time.Now().String())
		change()
		after, err := w.Wait(ctx, before)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(maps.Keys(before.Changes(after)))
		for i, name := range want {
			want[i] = filepath.Join(dir, name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("changed %q, want %q", got, want)
		}
		before = after
	}
	step([]string{"lib/b.py"}, func() { write(t, dir, "lib/b.py", "22") })
	step([]string{"new/deep/c.py"}, func() { write(t, dir, "new/deep/c.py", "1") })
	step([]string{"new/deep/c.py"}, func() { write(t, dir, "new/deep/c.py", "22") })
	step([]string{"a.py"}, func() {
		if err := os.Remove(filepath.Join(dir, "a.py")); err != nil {
			t.Error(err)
		}
	})
	cancel()
	if _, err := w.Wait(ctx, before); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWatcherOfOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "f.py", "1")
	w, err := NewWatcher(filepath.Join(dir, "f.py"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before, err := w.Look()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "other.py", "1")
	write(t, dir, "new", "22")
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "f.py")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	after, err := w.Wait(ctx, before)
	if err != nil || len(after) != 1 {
		t.Errorf("%v, %v", after, err)
	}
	gone, err := NewWatcher(filepath.Join(dir, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if _, err := gone.Look(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
