//go:build linux && (amd64 || arm64)

package hosts

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/rs/zerolog"
)

func TestHoldUnpacksOnceForAll(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	source := packed(t, hello())
	ts, err := newTrees(filepath.Join(t.TempDir(), "trees"), func(ctx context.Context, digest string) (*os.File, error) {
		opened.Add(1)
		return source(ctx, digest)
	}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			tree, err := ts.hold(t.Context(), "d1")
			if err != nil {
				t.Error(err)
				return
			}
			ts.release(tree)
		})
	}
	all.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("code was opened %d times", n)
	}
	// A later life of the daemon begins with nothing.
	if _, err := newTrees(ts.dir, source, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(ts.dir); err != nil || len(entries) != 0 {
		t.Errorf("%d entries are left, %v", len(entries), err)
	}
}

func TestHoldForgetsWhatFailed(t *testing.T) {
	t.Parallel()
	folders := map[string]fs.FS{}
	ts, err := newTrees(filepath.Join(t.TempDir(), "trees"), packed(t, folders), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ts.hold(t.Context(), "d1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	folders["d1"] = fstest.MapFS{"f": {Data: []byte("x")}}
	tree, err := ts.hold(t.Context(), "d1")
	if err != nil {
		t.Fatal(err)
	}
	ts.release(tree)
}

func TestCodeThatIsNoArchiveIsTheCodesFault(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(path, []byte("not a zip at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	ts, err := newTrees(filepath.Join(t.TempDir(), "trees"), func(context.Context, string) (*os.File, error) { return os.Open(path) }, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ts.hold(t.Context(), "d1"); !errors.Is(err, ErrCode) {
		t.Errorf("got %v, want ErrCode", err)
	}
}

func TestTrimKeepsWhatIsHeld(t *testing.T) {
	t.Parallel()
	folders := map[string]fs.FS{}
	for _, d := range []string{"a", "b", "c"} {
		folders[d] = fstest.MapFS{"f": {Data: []byte(d)}}
	}
	ts, err := newTrees(filepath.Join(t.TempDir(), "trees"), packed(t, folders), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]*tree{}
	for d := range folders {
		if held[d], err = ts.hold(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		held[d].size = keptBytes // each alone fills what may be kept
	}
	ts.release(held["a"])
	ts.release(held["b"])
	for d, want := range map[string]bool{"a": false, "b": true, "c": true} {
		_, err := os.Stat(filepath.Join(held[d].path, "f"))
		if got := err == nil; got != want {
			t.Errorf("code %s is there: %v, want %v", d, got, want)
		}
	}
	// What was deleted is unpacked again.
	again, err := ts.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ts.release(again)
}
