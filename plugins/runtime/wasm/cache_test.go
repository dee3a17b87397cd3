package wasm

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// folder copies a module of testdata to a folder of its own, and prepares it.
func folder(t *testing.T) (code, cache string) {
	t.Helper()
	code, cache = t.TempDir(), t.TempDir()
	module, err := os.ReadFile("testdata/probe.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(code, "probe.wasm"), module, 0o644); err != nil {
		t.Fatal(err)
	}
	prepare(t, code, cache)
	return code, cache
}

func files(t *testing.T, dir string) map[string]fs.FileInfo {
	t.Helper()
	found := map[string]fs.FileInfo{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		found[path] = info
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPreparingFillsTheCacheForEveryUser(t *testing.T) {
	t.Parallel()
	_, cache := folder(t)
	compiled := 0
	for path, info := range files(t, cache) {
		if path != cache && info.Mode().Perm()&0o044 != 0o044 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if strings.Contains(path, "wazero-") && !info.IsDir() {
			compiled++
		}
	}
	if compiled != 1 {
		t.Errorf("the cache has machine code of %d modules, want 1: %v", compiled, files(t, cache))
	}
}

// TestServingUsesTheCache takes the module away, so that only what was prepared is left.
func TestServingUsesTheCache(t *testing.T) {
	t.Parallel()
	code, cache := folder(t)
	before := files(t, cache)
	if err := os.WriteFile(filepath.Join(code, "probe.wasm"), []byte("gone"), 0o644); err != nil {
		t.Fatal(err)
	}
	handler, err := newHost(t).become(context.Background(), &covey.Setup{Code: code, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), handler, ""); err != nil {
		t.Error(err)
	}
	if after := files(t, cache); len(after) != len(before) {
		t.Errorf("serving changed the cache from %v to %v", before, after)
	}
}

func TestServingNeedsNoUsableCache(t *testing.T) {
	t.Parallel()
	code, cache := folder(t)
	for name, breakIt := range map[string]func(path string) error{
		"missing": os.Remove,
		"cut off": func(path string) error { return os.Truncate(path, 20) },
		"of another version": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(b), "WAZEVO", "WAZEVA", 1)), 0o644)
		},
	} {
		broken := t.TempDir()
		if err := os.CopyFS(broken, os.DirFS(cache)); err != nil {
			t.Fatal(err)
		}
		for path, info := range files(t, broken) {
			if !info.IsDir() && strings.Contains(path, "wazero-") {
				if err := breakIt(path); err != nil {
					t.Fatal(err)
				}
				// As read-only as it is in a sandbox, for any user.
				if err := os.Chmod(filepath.Dir(path), 0o555); err != nil {
					t.Fatal(err)
				}
			}
		}
		handler, err := newHost(t).become(context.Background(), &covey.Setup{Code: code, Cache: broken})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := do(t.Context(), handler, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
