package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeapGrowsUnderLoadAndShrinksAfterIt(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var allocated uint64
	var did []int // settings in order, 0 for memory given back
	h := &heap{
		read:    func() (uint64, uint64) { return allocated, 6 * mib },
		percent: func(p int) int { did = append(did, p); return 0 },
		free:    func() { did = append(did, 0) },
	}
	step := func(times int, rate uint64) {
		for range times {
			allocated += rate
			h.step()
		}
	}
	step(quietFor, 0)       // a node that starts gives back what starting took
	step(3*quietFor, 0)     // and then has nothing more to give
	step(1, 50*mib)         // load
	step(quietFor-1, mib/2) // a pause
	step(1, 2*mib)          // neither busy nor quiet
	step(1, 50*mib)         // more load
	step(quietFor-1, mib/2) // not long enough
	step(2, mib/2)          // quiet
	want := []int{100, 0, 400, 400, 100, 0}
	if diff := cmp.Diff(want, did); diff != "" {
		t.Error(diff)
	}
}

func TestHeapHeadroomIsBounded(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 600, 4 << 20: 600, 12 << 20: 200, 24 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("with %d live: %d %%, want %d", live, got, want)
		}
	}
}

func TestHeapReadsTheRuntime(t *testing.T) {
	t.Parallel()
	allocated, live := readHeap()
	keep := make([]byte, 1<<20)
	later, _ := readHeap()
	if live > allocated || later < allocated+uint64(len(keep)) {
		t.Errorf("allocated %d then %d, live %d", allocated, later, live)
	}
}
