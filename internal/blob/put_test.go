package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestPutIsDurableOnTwoOwners(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d", "e")
	data := content(1, 1000)
	d := mustPut(t, c.stores["e"], data) // e is no owner
	if got := c.holders(d); !slices.Equal(got, []string{"a", "b", "e"}) {
		t.Errorf("right after Put the blob is on %v, want the first two owners and a copy here", got)
	}
	d = mustPut(t, c.stores["b"], content(2, 1000))
	if got := c.holders(d); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("put by an owner: on %v", got)
	}
	single := newCluster(t, "a")
	if got := single.holders(mustPut(t, single.stores["a"], data)); len(got) != 1 {
		t.Errorf("alone: on %v", got)
	}
}

func TestPutGoesPastOwnersThatAreDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c", "d", "e")
	c.setDown(true, "a", "c")
	d := mustPut(t, c.stores["e"], content(1, 500))
	if got := c.holders(d); !slices.Equal(got, []string{"b", "d", "e"}) {
		t.Errorf("on %v, want the next two of the ring", got)
	}
	c.setDown(true, "b", "d")
	_, _, err := c.stores["e"].Put(t.Context(), bytes.NewReader(content(2, 500)))
	nd, ok := errors.AsType[*NotDurableError](err)
	if !ok || nd.Have != 1 || nd.Need != 2 || !errors.Is(err, ErrNotDurable) || !errors.Is(err, errDown) {
		t.Errorf("with one node left: %v", err)
	}
}

func TestSendResumesAfterAnError(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	var mu sync.Mutex
	sent, failed := 0, false
	c.onPut = func(_ string, chunk *Chunk) error {
		mu.Lock()
		defer mu.Unlock()
		sent++
		if chunk.Offset == 500 && !failed {
			failed = true
			return errors.New("cut")
		}
		return nil
	}
	d := mustPut(t, c.stores["a"], content(1, 1000))
	mustRead(t, c.stores["b"], d, content(1, 1000))
	// Ten chunks, the one that failed, and the first again to learn where to go on.
	if sent > 12 {
		t.Errorf("%d chunks were sent for ten", sent)
	}
}

func TestReaderErrorKeepsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	boom := errors.New("client went away")
	r := io.MultiReader(bytes.NewReader(content(1, 300)), iotest.ErrReader(boom))
	if _, _, err := c.stores["a"].Put(t.Context(), r); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if n, _ := c.stores["a"].Len(); n != 0 || c.staged("a") != 0 {
		t.Errorf("%d blobs and %d staging files are left", n, c.staged("a"))
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	c.onPut = func(string, *Chunk) error { cancel(); return errDown }
	if _, _, err := c.stores["a"].Put(ctx, bytes.NewReader(content(1, 300))); !errors.Is(err, ErrNotDurable) {
		t.Errorf("got %v", err)
	}
}

func TestSizeLimitHolds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	s := c.open("a", func(cfg *Config) { cfg.SizeMax = 100 })
	mustPut(t, s, content(1, 100))
	if _, _, err := s.Put(t.Context(), bytes.NewReader(content(1, 101))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.ServePut(t.Context(), Chunk{Size: 101, Data: []byte("x")}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("receive: %v", err)
	}
}

func TestReceiverTellsWhereToGoOn(t *testing.T) {
	t.Parallel()
	s := newCluster(t, "a").stores["a"]
	data := content(1, 300)
	d := Sum(data)
	put := func(from, to int) int64 {
		t.Helper()
		next, err := s.ServePut(t.Context(), Chunk{Digest: d, Size: 300, Offset: int64(from), Data: data[from:to]})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	for _, step := range []struct{ from, to, next int }{
		{100, 200, 0}, {0, 100, 100}, {0, 50, 100}, {200, 300, 100}, {100, 250, 250}, {250, 300, 300}, {0, 10, 300},
	} {
		if got := put(step.from, step.to); got != int64(step.next) {
			t.Fatalf("after %d..%d the receiver wants %d, want %d", step.from, step.to, got, step.next)
		}
	}
	mustRead(t, s, d, data)
}

func TestTwoSendersHelpEachOther(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	data := content(1, 20_000)
	mustPut(t, c.stores["a"], data)
	var senders sync.WaitGroup
	for _, from := range []string{"a", "b"} {
		senders.Go(func() {
			if err := c.stores[from].sendTo(t.Context(), "c", Sum(data), int64(len(data))); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	mustRead(t, c.stores["c"], Sum(data), data)
	if n := c.staged("c"); n != 0 {
		t.Errorf("%d staging files are left", n)
	}
}

func TestChunkBehindTheLastBeginsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	data := content(1, 300)
	d := mustPut(t, c.stores["a"], data)
	// A sender that ServePut told to go on just before another one completed d.
	rx, err := c.stores["a"].receiving(Chunk{Digest: d, Size: 300, Data: data})
	if rx != nil || err != nil {
		t.Errorf("a receive of a blob that is whole: %v, %v", rx, err)
	}
}

func TestReceiverRefusesNonsense(t *testing.T) {
	t.Parallel()
	s := newCluster(t, "a").stores["a"]
	for name, c := range map[string]Chunk{
		"negative offset":     {Size: 10, Offset: -1, Data: []byte("x")},
		"beyond the end":      {Size: 10, Offset: 5, Data: []byte("123456")},
		"offset past the end": {Size: 10, Offset: 11},
		"no data":             {Size: 10},
		"negative size":       {Size: -1},
		"huge chunk":          {Size: 8 << 20, Data: make([]byte, ChunkMax+1)},
	} {
		if _, err := s.ServePut(t.Context(), c); !errors.Is(err, ErrBadChunk) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	wrong := Chunk{Digest: Sum([]byte("right")), Size: 5, Data: []byte("wrong")}
	if _, err := s.ServePut(t.Context(), wrong); !errors.Is(err, ErrMismatch) {
		t.Errorf("wrong bytes: got %v", err)
	}
	if _, err := s.Open(t.Context(), wrong.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("wrong bytes were kept: %v", err)
	}
	wrong.Data = []byte("righ")
	if _, err := s.ServePut(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	wrong.Size = 6
	if _, err := s.ServePut(t.Context(), wrong); !errors.Is(err, ErrBadChunk) {
		t.Errorf("two sizes of one blob: got %v", err)
	}
}

func TestReceivesAreBoundedAndExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		s := c.stores["a"]
		chunk := func(i int) Chunk { return Chunk{Digest: Sum([]byte{byte(i)}), Size: 2, Data: []byte{1}} }
		for i := range receiveMax {
			if _, err := s.ServePut(t.Context(), chunk(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.ServePut(t.Context(), chunk(receiveMax)); !errors.Is(err, ErrBusy) {
			t.Errorf("one more: got %v", err)
		}
		time.Sleep(receiveIdle)
		s.expireReceives(time.Now())
		if n := c.staged("a"); n != 0 {
			t.Errorf("%d staging files outlived their senders", n)
		}
		if _, err := s.ServePut(t.Context(), chunk(receiveMax)); err != nil {
			t.Errorf("after the others expired: %v", err)
		}
	})
}

func TestRottenCopyOfAnEarlierLifeIsNotCounted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	data := content(1, 300)
	d := mustPut(t, c.stores["a"], data)
	c.rot("b", d)
	c.open("b")
	mustPut(t, c.stores["a"], data) // relies on b anew
	c.setDown(true, "a")
	mustRead(t, c.stores["b"], d, data)
}
