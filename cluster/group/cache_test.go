package group

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// TestCacheEqualsStore holds the cache against the store below it under random
// appends, rewrites, truncations and reads.
func TestCacheEqualsStore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		inner := newMemStore()
		c := newLogCache(inner, rapid.IntRange(1, 2000).Draw(t, "max"))
		next := uint64(1)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				var logs []*raft.Log
				for range rapid.IntRange(1, 5).Draw(t, "n") {
					data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
					logs = append(logs, &raft.Log{Index: next, Data: data})
					next++
				}
				if err := c.StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
			case 2: // a follower drops a suffix that lost
				if next > 2 {
					from := rapid.Uint64Range(1, next-1).Draw(t, "from")
					if err := c.DeleteRange(from, next-1); err != nil {
						t.Fatal(err)
					}
					next = from
				}
			case 3: // compaction
				to := rapid.Uint64Range(0, next-1).Draw(t, "to")
				if err := c.DeleteRange(0, to); err != nil {
					t.Fatal(err)
				}
			}
			for i := range next + 1 {
				var got, want raft.Log
				gotErr, wantErr := c.GetLog(i, &got), inner.GetLog(i, &want)
				if !errors.Is(gotErr, wantErr) || got.Index != want.Index || !bytes.Equal(got.Data, want.Data) {
					t.Fatalf("entry %d: %v %v, want %v %v", i, got.Index, gotErr, want.Index, wantErr)
				}
			}
		}
	})
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	c := newLogCache(newMemStore(), 10_000)
	for i := range uint64(1000) {
		if err := c.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, 500)}); err != nil {
			t.Fatal(err)
		}
	}
	if c.bytes > 10_000 || len(c.held) == 0 || len(c.held) > 20 {
		t.Errorf("holds %d entries, %d bytes", len(c.held), c.bytes)
	}
}

func TestCacheHoldsNothingThatIsNotStored(t *testing.T) {
	t.Parallel()
	inner := newMemStore()
	inner.setFull(true)
	c := newLogCache(inner, 10_000)
	if err := c.StoreLog(entry(1)); err == nil {
		t.Fatal("stored on a full disk")
	}
	var l raft.Log
	if err := c.GetLog(1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that was refused can be read: %v", err)
	}
}
