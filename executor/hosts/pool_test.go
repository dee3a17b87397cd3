//go:build linux && (amd64 || arm64)

package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// builtRuntime is a Go program that is a runtime, built once.
var builtRuntime = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "covey-hosts-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "runtime")
	build := exec.Command("go", "build", "-o", path, "github.com/covey-dev/covey/plugins/examples/conformance")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
})

// newPool runs a pool with the runtime "test"; digests name archives of the given
// folders.
func newPool(t *testing.T, folders map[string]fs.FS, change ...func(*Runtime)) *Pool {
	t.Helper()
	path, err := builtRuntime()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	box := sandbox.DefaultConfig()
	box.DataDir = t.TempDir()
	s, err := sandbox.New(box)
	if err != nil {
		t.Fatal(err)
	}
	rt := Runtime{Name: "test", Program: file, Args: []string{"test", program.ArgRuntime}, Prepares: true}
	for _, f := range change {
		f(&rt)
	}
	p, err := New(Config{
		DataDir: box.DataDir, Sandbox: s, Code: packed(t, folders), Logger: zerolog.New(zerolog.NewTestWriter(t)),
		Runtimes: []Runtime{rt},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := errors.Join(s.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// packed returns a source of code.
func packed(t *testing.T, folders map[string]fs.FS) func(context.Context, string) (*os.File, error) {
	dir := t.TempDir()
	return func(_ context.Context, digest string) (*os.File, error) {
		folder, ok := folders[digest]
		if !ok {
			return nil, fs.ErrNotExist
		}
		var b bytes.Buffer
		if err := archive.Pack(&b, folder, archive.Options{}); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, digest)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			return nil, err
		}
		return os.Open(path)
	}
}

func hello() map[string]fs.FS {
	return map[string]fs.FS{"d1": fstest.MapFS{
		"main.txt": {Data: []byte("hello")}, "lib/x.txt": {Data: []byte("x")}, "opt/shared.txt": {Data: []byte("layer")},
	}}
}

// become makes a host the conformance program's function.
func become(t *testing.T, h *Host) *plugins.Conn {
	t.Helper()
	conn := plugins.NewConn(h.Conn, plugins.ConnConfig{})
	t.Cleanup(func() {
		h.Process.Kill()
		_ = conn.Close()
		_ = h.Stdout.Close()
		_ = h.Stderr.Close()
		h.Release()
	})
	if err := conn.Setup(&plugins.Setup{Function: "f", Code: h.Code, Cache: h.Cache}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := conn.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return conn
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for err := check(); err != nil; err = check() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up: %v", err)
		}
		<-tick.C
	}
}

// waiting is how many blanks wait.
func (s *shelf) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}

func TestTakeGivesAProcessThatSeesTheCode(t *testing.T) {
	t.Parallel()
	p := newPool(t, hello())
	h, err := p.Take(t.Context(), "test", "d1", "", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	become(t, h)
	// Through the process's own root, as it sees the world.
	root := fmt.Sprintf("/proc/%d/root", h.Process.Pid())
	if text, err := os.ReadFile(filepath.Join(root, h.Code, "main.txt")); err != nil || string(text) != "hello" {
		t.Errorf("code is %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(root, h.Code, "main.txt"), nil, 0o600); err == nil {
		t.Error("code can be written to")
	}
	if text, err := os.ReadFile(filepath.Join(root, sandbox.OptDir, "shared.txt")); p.cfg.Sandbox.Shows() && (err != nil || string(text) != "layer") {
		t.Errorf("layer is %q, %v", text, err)
	}
}

func TestBlanksWaitWhileTheRuntimeIsWanted(t *testing.T) {
	t.Parallel()
	p := newPool(t, hello())
	if !p.cfg.Sandbox.Shows() {
		t.Skip("processes are not started ahead without a template")
	}
	s := p.shelfs["test"]
	p.Want(map[string]bool{"test": true})
	full := func() error {
		if n := s.waiting(); n != blanksReady {
			return fmt.Errorf("%d blanks wait, want %d", n, blanksReady)
		}
		return nil
	}
	eventually(t, full)
	s.mu.Lock()
	first := s.ready[0].process
	s.mu.Unlock()
	h, err := p.Take(t.Context(), "test", "d1", "", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	become(t, h)
	if h.Process != first {
		t.Error("another process was taken than the one that waited longest")
	}
	eventually(t, full)
	p.Want(nil)
	eventually(t, func() error {
		if n := s.waiting(); n != 0 {
			return fmt.Errorf("%d blanks are left", n)
		}
		return nil
	})
}

func TestTakePassesOverBlanksThatDied(t *testing.T) {
	t.Parallel()
	p := newPool(t, hello())
	s := p.shelfs["test"]
	p.Want(map[string]bool{"test": true})
	if p.cfg.Sandbox.Shows() {
		eventually(t, func() error {
			if s.waiting() != blanksReady {
				return errors.New("not full")
			}
			return nil
		})
	}
	s.mu.Lock()
	for _, b := range s.ready {
		b.process.Kill()
	}
	s.mu.Unlock()
	h, err := p.Take(t.Context(), "test", "d1", "", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	become(t, h)
}

func TestTakeRefuses(t *testing.T) {
	t.Parallel()
	p := newPool(t, hello())
	if _, err := p.Take(t.Context(), "cobol", "d1", "", 1<<20); !errors.Is(err, ErrRuntime) {
		t.Errorf("unknown runtime: %v", err)
	}
	if _, err := p.Take(t.Context(), "test", "d2", "", 64<<20); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown code: %v", err)
	}
	for _, digest := range []string{"", "..", "a/b"} {
		if _, err := p.Take(t.Context(), "test", digest, "", 64<<20); err == nil {
			t.Errorf("digest %q was taken", digest)
		}
	}
	if len(p.trees.all) != 0 {
		t.Errorf("%d trees are left", len(p.trees.all))
	}
}

func TestPrepareLeavesACacheThatInstancesSee(t *testing.T) {
	t.Parallel()
	p := newPool(t, hello())
	if !p.cfg.Sandbox.Shows() {
		t.Skip("nothing is prepared without a template")
	}
	for range 2 { // the second does nothing
		if err := p.Prepare(t.Context(), "test", "d1", ""); err != nil {
			t.Fatal(err)
		}
	}
	h, err := p.Take(t.Context(), "test", "d1", "", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	become(t, h)
	if h.Cache == "" {
		t.Fatal("the instance gets no cache")
	}
	name := filepath.Join(fmt.Sprintf("/proc/%d/root", h.Process.Pid()), h.Cache, "names")
	text, err := os.ReadFile(name)
	if err != nil || string(text) != "lib\nmain.txt\nopt" {
		t.Errorf("cache has %q, %v", text, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("cache file: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(name, nil, 0o600); err == nil {
		t.Error("the cache can be written to")
	}
}

func TestStartsOfCompiledCodeWaitForIt(t *testing.T) {
	t.Parallel()
	p := newPool(t, hello(), func(rt *Runtime) { rt.Compiles = true })
	if !p.cfg.Sandbox.Shows() {
		t.Skip("nothing is prepared without a template")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Take(over, "test", "d1", "", 64<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("a start that is over already: %v", err)
	}
	var starts sync.WaitGroup
	for range 3 {
		starts.Go(func() {
			h, err := p.Take(t.Context(), "test", "d1", "", 64<<20)
			if err != nil {
				t.Error(err)
				return
			}
			if h.Cache == "" {
				t.Error("an instance started without what was prepared")
			}
			h.Process.Kill()
			_ = errors.Join(h.Conn.Close(), h.Stdout.Close(), h.Stderr.Close())
			h.Release()
		})
	}
	starts.Wait()
}

func TestSealLeavesOnlyFilesOfOurs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/f"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "a/link")); err != nil {
		t.Fatal(err)
	}
	if err := seal(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "a/link")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link is still there: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "a/f")); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("file: %v, %v", info.Mode(), err)
	}
	if err := archive.Remove(dir); err != nil {
		t.Error(err)
	}
}
