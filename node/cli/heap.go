package cli

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// headroom is how much garbage a busy daemon may keep. More than this saves no
	// further work, because it leaves the processor's caches.
	headroom = 24 << 20
	// busyRate and quietRate, in bytes allocated a second, are when the daemon
	// counts as busy, about a thousand calls a second, and as quiet again.
	busyRate  = 4 << 20
	quietRate = 1 << 20
	// quietFor is how many readings must be quiet before memory is given back.
	quietFor  = 10
	paceEvery = time.Second
)

// heap sets how far the daemon's heap grows before garbage is collected. Go's
// default, twice what is live, suits an idle node: a few MiB. Under load it means
// twenty collections a second, which cost a warm call about a tenth of its
// processor time. So a busy node gets headroom, and a quiet one gives it back.
//
// The setting belongs to the process, which is why this is not in package node.
type heap struct {
	read    func() (allocated, live uint64)
	percent func(int) int // debug.SetGCPercent
	free    func()        // debug.FreeOSMemory

	last  uint64 // bytes ever allocated, at the last reading
	quiet int    // quiet readings since the last busy one
}

func newHeap() *heap {
	h := &heap{read: readHeap, percent: debug.SetGCPercent, free: debug.FreeOSMemory}
	h.last, _ = h.read()
	return h
}

// run adjusts the setting until ctx ends.
func (h *heap) run(ctx context.Context) {
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.step()
		}
	}
}

// step takes one reading.
func (h *heap) step() {
	allocated, live := h.read()
	rate := allocated - h.last
	h.last = allocated
	switch {
	case rate >= busyRate:
		h.quiet = 0
		h.percent(percentFor(live))
	case rate < quietRate:
		// Once, until it has been busy again: the node then stays as small as it is.
		if h.quiet++; h.quiet == quietFor {
			h.percent(defaultPercent)
			h.free()
		}
	}
}

const defaultPercent = 100

// percentFor returns the setting that allows headroom over what is live, and
// never less than Go's default.
func percentFor(live uint64) int {
	return int(max(headroom*100/max(live, 4<<20), defaultPercent))
}

func readHeap() (allocated, live uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}
