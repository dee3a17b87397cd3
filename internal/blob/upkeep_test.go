package blob

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func (c *cluster) repairAll(t *testing.T) {
	t.Helper()
	for node, s := range c.stores {
		if c.isDown(node) {
			continue
		}
		if err := s.Repair(t.Context()); err != nil {
			t.Errorf("repair on %s: %v", node, err)
		}
	}
}

func TestThirdOwnerFetchesWhatIsNamed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d")
	d := mustPut(t, c.stores["a"], content(1, 300))
	c.repairAll(t)
	if got := c.holders(d); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("unnamed: on %v", got)
	}
	c.name(d)
	c.repairAll(t)
	if got := c.holders(d); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("named: on %v", got)
	}
}

func TestRepairFollowsRemovalAtOnceAndSilenceLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c", "d", "e")
		d := mustPut(t, c.stores["a"], content(1, 300))
		c.name(d)
		c.repairAll(t)
		three := []string{"a", "b", "c"}

		c.setDown(true, "b")
		c.repairAll(t)
		time.Sleep(9 * time.Minute)
		c.repairAll(t)
		if got := c.holders(d); !slices.Equal(got, three) {
			t.Errorf("a flap moved the blob: on %v", got)
		}
		c.setDown(false, "b") // back: the silence begins anew
		c.repairAll(t)
		c.setDown(true, "b")
		c.repairAll(t)
		time.Sleep(9 * time.Minute)
		c.repairAll(t)
		if got := c.holders(d); !slices.Equal(got, three) {
			t.Errorf("two flaps were added up: on %v", got)
		}
		time.Sleep(time.Minute)
		c.repairAll(t)
		if got := c.holders(d); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("after ten minutes of silence: on %v", got)
		}
		c.mu.Lock()
		c.order = []string{"b", "c", "d", "e"} // a was removed
		c.mu.Unlock()
		c.repairAll(t)
		if got := c.holders(d); !slices.Contains(got, "e") {
			t.Errorf("after a removal: on %v", got)
		}
	})
}

func TestUnnamedBlobsGoAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		s := c.stores["a"]
		named, unnamed, wanted := mustPut(t, s, content(1, 100)), mustPut(t, s, content(2, 100)), mustPut(t, s, content(3, 100))
		c.name(named)
		collect := func(want int) {
			t.Helper()
			if n, err := s.Collect(); err != nil || n != want {
				t.Errorf("collected %d (%v), want %d", n, err, want)
			}
		}
		collect(0)
		time.Sleep(23 * time.Hour)
		collect(0)
		s.ServeHas([]Digest{wanted}) // another node is about to name it
		c.mu.Lock()
		c.stale = true
		c.mu.Unlock()
		time.Sleep(time.Hour)
		if n, err := s.Collect(); err == nil || n != 0 {
			t.Errorf("by a stale view %d were collected, %v", n, err)
		}
		c.mu.Lock()
		c.stale = false
		c.mu.Unlock()
		collect(1)
		if !s.present(named) || s.present(unnamed) || !s.present(wanted) {
			t.Errorf("present: %v %v %v", s.present(named), s.present(unnamed), s.present(wanted))
		}
		c.unname(named)
		collect(0)
		time.Sleep(24 * time.Hour)
		collect(2)
		mustPut(t, s, content(1, 100)) // and may come back
	})
}

func TestScrubHealsWhatIsNamed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	data := content(1, 1000)
	d, other := mustPut(t, c.stores["a"], data), mustPut(t, c.stores["a"], content(2, 1000))
	c.name(d)
	c.rot("a", d)
	c.rot("a", other)
	n, err := c.stores["a"].Scrub(t.Context())
	if err != nil || n != 2 {
		t.Errorf("scrub found %d, %v", n, err)
	}
	if !c.stores["a"].present(d) || c.stores["a"].present(other) {
		t.Error("the named blob was not healed, or the unnamed one was fetched")
	}
	mustRead(t, c.stores["a"], d, data)
	if n, err := c.stores["a"].Scrub(t.Context()); err != nil || n != 0 {
		t.Errorf("second scrub found %d, %v", n, err)
	}
}

func TestScrubKeepsItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		s := c.open("a", func(cfg *Config) { cfg.ScrubRate = 1000 })
		mustPut(t, s, content(1, 10_000))
		began := time.Now()
		if _, err := s.Scrub(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10,000 bytes at 1,000 per second took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if n, err := s.Scrub(ctx); !errors.Is(err, context.DeadlineExceeded) || n != 0 {
			t.Errorf("interrupted: %d, %v", n, err)
		}
	})
}

func TestRunKeepsTheStoreUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.stores["c"].Run(ctx) }()
		synctest.Wait()

		first, second := mustPut(t, c.stores["a"], content(1, 300)), mustPut(t, c.stores["a"], content(2, 300))
		c.name(first)
		time.Sleep(c.stores["c"].cfg.RepairEvery + time.Second)
		synctest.Wait()
		if !c.stores["c"].present(first) {
			t.Error("not repaired at the interval")
		}
		c.name(second)
		c.stores["c"].Kick()
		c.stores["c"].Kick()
		synctest.Wait()
		if !c.stores["c"].present(second) {
			t.Error("not repaired when kicked")
		}
		c.rot("c", first)
		c.unname(second)
		time.Sleep(50 * time.Hour)
		synctest.Wait()
		if c.stores["c"].present(second) {
			t.Error("not collected")
		}
		mustRead(t, c.stores["c"], first, content(1, 300)) // scrubbed and healed
		if f, err := c.stores["c"].fs.Open(c.stores["c"].path(first)); err != nil {
			t.Error(err)
		} else {
			if err := checkFile(t.Context(), f, first); err != nil {
				t.Errorf("the scrub left a rotten file: %v", err)
			}
			_ = f.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, _, err := c.stores["c"].Put(t.Context(), bytes.NewReader(content(9, 10))); err == nil {
			t.Error("a store that ran out took a blob")
		}
	})
}

func TestBlobAskedForWhileItWasDueStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t, "a").stores["a"]
		d := mustPut(t, s, content(1, 100))
		if _, err := s.Collect(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour) // due now, and a collection has listed it
		s.ServeHas([]Digest{d})
		if ok, err := s.remove(d, time.Now()); ok || err != nil || !s.present(d) {
			t.Errorf("removed: %v, %v", ok, err)
		}
	})
}
