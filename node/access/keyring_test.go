package access_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4"
)

// counting is a source that derives from the id, and counts.
func counting(asked *atomic.Int64) access.Source {
	return func(_ context.Context, key *state.Token, day string) (sigv4.Key, error) {
		asked.Add(1)
		return sigv4.DayKey(string(key.Sealed), day), nil
	}
}

func TestKeyringAsksOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	ring := access.NewKeyring(counting(&asked))
	k := accessKey("K")
	for range 3 {
		got, err := ring.DayKey(t.Context(), k, "20261128")
		if err != nil || got != sigv4.DayKey("sealed K", "20261128") {
			t.Fatalf("%x, %v", got, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if _, err := ring.DayKey(t.Context(), k, "20261129"); err != nil || asked.Load() != 2 {
		t.Errorf("another day: asked %d times, %v", asked.Load(), err)
	}
	// An id that came back with another secret is another key.
	other := accessKey("K")
	other.Sealed = []byte("other")
	if got, err := ring.DayKey(t.Context(), other, "20261128"); err != nil || got != sigv4.DayKey("other", "20261128") {
		t.Errorf("another secret: %x, %v", got, err)
	}
}

func TestKeyringAsksOnceForAllWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		answer := make(chan struct{})
		ring := access.NewKeyring(func(ctx context.Context, _ *state.Token, _ string) (sigv4.Key, error) {
			asked.Add(1)
			select {
			case <-answer:
				return sigv4.Key{1}, nil
			case <-ctx.Done():
				return sigv4.Key{}, ctx.Err()
			}
		})
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = ring.DayKey(first, accessKey("K"), "20261128") })
		synctest.Wait()
		impatient, giveUp := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := ring.DayKey(impatient, accessKey("K"), "20261128"); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		})
		for range 5 {
			wg.Go(func() {
				if k, err := ring.DayKey(t.Context(), accessKey("K"), "20261128"); err != nil || k != (sigv4.Key{1}) {
					t.Errorf("who waited got %x, %v", k, err)
				}
			})
		}
		synctest.Wait()
		leave() // the others still get their answer
		giveUp()
		synctest.Wait()
		close(answer)
		wg.Wait()
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

func TestKeyringDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := true
		ring := access.NewKeyring(func(ctx context.Context, _ *state.Token, _ string) (sigv4.Key, error) {
			if hang {
				<-ctx.Done()
				return sigv4.Key{}, errors.Join(access.ErrNoKeeper, ctx.Err())
			}
			return sigv4.Key{}, nil
		})
		begin := time.Now()
		if _, err := ring.DayKey(t.Context(), accessKey("K"), "20261128"); !errors.Is(err, access.ErrNoKeeper) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		hang = false // a failure is not remembered
		if _, err := ring.DayKey(t.Context(), accessKey("K"), "20261128"); err != nil {
			t.Error(err)
		}
	})
}

func TestKeyringForgets(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var asked atomic.Int64
	ring := access.NewKeyring(counting(&asked))
	known := keys{}
	for _, id := range []state.TokenID{"stays", "revoked", "expired", "changed"} {
		known[id] = accessKey(id)
		if _, err := ring.DayKey(t.Context(), known[id], "20261128"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ring.DayKey(t.Context(), known["stays"], "20261101"); err != nil {
		t.Fatal(err)
	}
	ring.Sweep(known, now)
	if ring.Kept() != 4 {
		t.Errorf("%d keys are kept, want 4", ring.Kept())
	}
	delete(known, "revoked")
	known["expired"].Expires = now
	known["changed"] = accessKey("changed")
	known["changed"].Sealed = []byte("other")
	ring.Sweep(known, now)
	if ring.Kept() != 1 {
		t.Errorf("%d keys are kept, want 1", ring.Kept())
	}
	for i := range access.MaxKept + 10 {
		if _, err := ring.DayKey(t.Context(), accessKey(state.TokenID(fmt.Sprint("k", i))), "20261128"); err != nil {
			t.Fatal(err)
		}
	}
	if ring.Kept() != access.MaxKept {
		t.Errorf("%d keys are kept, want %d", ring.Kept(), access.MaxKept)
	}
}

func TestUsefulDays(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		day, now string
		want     bool
	}{
		{"20261128", "2026-11-28T12:00:00Z", true},
		{"20261127", "2026-11-28T12:00:00Z", true},
		{"20261121", "2026-11-28T12:00:00Z", true}, // a URL presigned for a week
		{"20261119", "2026-11-28T12:00:00Z", false},
		{"20261129", "2026-11-28T12:00:00Z", false},
		{"20261129", "2026-11-28T23:56:00Z", true}, // a clock that is ahead
		{"20261128", "2026-11-28T00:00:00Z", true},
		{"2026-11-28", "2026-11-28T12:00:00Z", false},
		{"", "2026-11-28T12:00:00Z", false},
	} {
		now, err := time.Parse(time.RFC3339, tc.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := access.UsefulDay(tc.day, now); got != tc.want {
			t.Errorf("%s at %s: %v", tc.day, tc.now, got)
		}
	}
}
