package blob

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
)

func TestAbsentBlobIsFetchedOnceForAll(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d")
	data := content(1, 1000)
	d := mustPut(t, c.stores["a"], data)
	var openers sync.WaitGroup
	for range 20 {
		openers.Go(func() { mustRead(t, c.stores["d"], d, data) })
	}
	openers.Wait()
	if got := c.gets["a"] + c.gets["b"]; got != 10 {
		t.Errorf("%d chunks were fetched for ten", got)
	}
}

func TestFetchResumesAtAnotherOwner(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d")
	data := content(1, 1000)
	d := mustPut(t, c.stores["a"], data)
	c.onGet = func(node string, offset int64, _ []byte) error {
		if node == "a" && offset >= 500 {
			return errDown
		}
		return nil
	}
	mustRead(t, c.stores["d"], d, data)
	if c.gets["a"] != 6 || c.gets["b"] != 5 {
		t.Errorf("chunks asked: %v, want 6 of a and 5 of b", c.gets)
	}
}

func TestSourceThatLiesDoesNotSpoilTheFetch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d")
	data := content(1, 1000)
	d := mustPut(t, c.stores["a"], data)
	c.onGet = func(node string, offset int64, buf []byte) error {
		if node == "a" && offset == 300 {
			buf[0] ^= 1
		}
		return nil
	}
	mustRead(t, c.stores["d"], d, data)
	if n := c.staged("d"); n != 0 {
		t.Errorf("%d staging files are left", n)
	}
}

func TestCopyOutsideTheOwnersIsFound(t *testing.T) {
	t.Parallel()
	nodes := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	c := newCluster(t, nodes...)
	data := content(1, 400)
	d := mustPut(t, c.stores["i"], data) // owners a and b, a copy on i
	for _, node := range []string{"a", "b"} {
		if err := os.RemoveAll(c.dirs[node]); err != nil {
			t.Fatal(err)
		}
		c.open(node)
	}
	mustRead(t, c.stores["a"], d, data)
}

func TestBlobThatIsNowhereIsNotFound(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	if _, err := c.stores["a"].Open(t.Context(), Sum([]byte("never put"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestCallerThatGivesUpEndsTheFetch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d")
	d := mustPut(t, c.stores["a"], content(1, 1000))
	ctx, cancel := context.WithCancel(t.Context())
	c.onGet = func(string, int64, []byte) error {
		cancel()
		return nil
	}
	if _, err := c.stores["d"].Open(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	c.stores["d"].Close() // waits for the fetch
	if n := c.staged("d"); n != 0 {
		t.Errorf("%d staging files are left", n)
	}
}

// hung is a Transport whose chunks never come.
type hung struct{ *wire }

func (hung) Get(ctx context.Context, _ string, _ Digest, _ int64, _ []byte) (int, int64, error) {
	<-ctx.Done()
	return 0, 0, ctx.Err()
}

func TestNodeThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		s := c.open("a", func(cfg *Config) { cfg.Transport = hung{&wire{c}} })
		if _, err := s.Open(t.Context(), Sum([]byte("x"))); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRottenCopyIsNeverServed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d")
	data := content(1, 1000)
	d := mustPut(t, c.stores["a"], data)
	c.rot("a", d)
	c.open("a") // a new life, which has verified nothing
	if _, _, err := c.stores["a"].ServeGet(t.Context(), d, 0, make([]byte, 10)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a rotten copy was served: %v", err)
	}
	mustRead(t, c.stores["d"], d, data)
	mustRead(t, c.stores["a"], d, data) // heals itself
	if files, err := os.ReadDir(filepath.Join(c.dirs["a"], quarantineDir)); err != nil || len(files) != 1 {
		t.Errorf("quarantine holds %d files, %v", len(files), err)
	}

	alone := newCluster(t, "a")
	d = mustPut(t, alone.stores["a"], data)
	alone.rot("a", d)
	if _, err := alone.open("a").Open(t.Context(), d); !errors.Is(err, ErrNotFound) {
		t.Errorf("alone with a rotten copy: %v", err)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	for i := range quarantineMax + 5 {
		d := mustPut(t, c.stores["a"], content(uint64(i), 64))
		c.rot("a", d)
	}
	if n, err := c.stores["a"].Scrub(t.Context()); err != nil || n != quarantineMax+5 {
		t.Errorf("scrub found %d, %v", n, err)
	}
	if files, err := os.ReadDir(filepath.Join(c.dirs["a"], quarantineDir)); err != nil || len(files) != quarantineMax {
		t.Errorf("quarantine holds %d files, %v", len(files), err)
	}
}
