package group

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// minFree is the free space below which a disk that refused a write still counts
// as full.
const minFree = 1 << 20

// isFull reports that a write failed for lack of space.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskWatch stands between Raft and its store. It ends the process when a write
// hangs or the disk stays full, gives up the reserve file when it fills, and
// tells when space is low. Reads pass through.
//
// Raft panics when it cannot store its term, so those small writes wait for space
// here; appends fail after one more try, and a leader then steps down.
type diskWatch struct {
	LogStore
	cfg     DiskConfig
	dir     string
	log     zerolog.Logger
	exit    func(error)
	written prometheus.Observer // may be nil
	full    prometheus.Counter  // may be nil
	reserve *reserve
	low     atomic.Bool
	free    atomic.Int64

	stop    chan struct{}
	stopped sync.Once
	exited  sync.Once
	wg      sync.WaitGroup

	mu        sync.Mutex
	next      uint64
	inFlight  map[uint64]time.Time // start of each running write
	fullSince time.Time            // zero while writes succeed
}

var _ LogStore = (*diskWatch)(nil)

// newDiskWatch wraps a store; start begins the watching.
func newDiskWatch(inner LogStore, dir string, cfg DiskConfig, log zerolog.Logger, exit func(error)) *diskWatch {
	if cfg.Free == nil {
		cfg.Free = freeSpace
	}
	return &diskWatch{
		LogStore: inner,
		cfg:      cfg,
		dir:      dir,
		log:      log,
		exit:     exit,
		reserve:  newReserve(dir, cfg.Reserve),
		stop:     make(chan struct{}),
		inFlight: make(map[uint64]time.Time),
	}
}

// start begins watching; close ends it. Time and space are watched apart, because
// asking a frozen file system for its free space hangs too.
func (w *diskWatch) start() {
	w.wg.Go(w.watchTime)
	w.wg.Go(w.watchSpace)
}

// close ends the watching and lets a write that waits for room fail.
func (w *diskWatch) close() {
	w.stopped.Do(func() { close(w.stop) })
	w.wg.Wait()
}

// StoreLog implements raft.LogStore.
func (w *diskWatch) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (w *diskWatch) StoreLogs(logs []*raft.Log) error {
	store := func() error { return w.LogStore.StoreLogs(logs) }
	err := w.try(store)
	if isFull(err) && w.reserve.giveUp() {
		w.log.Warn().Err(err).Msg("disk full, reserve file given up")
		err = w.try(store)
	}
	return err
}

// DeleteRange implements raft.LogStore.
func (w *diskWatch) DeleteRange(first, last uint64) error {
	return w.try(func() error { return w.LogStore.DeleteRange(first, last) })
}

// Set implements raft.StableStore.
func (w *diskWatch) Set(key, val []byte) error {
	return w.insist(func() error { return w.LogStore.Set(key, val) })
}

// SetUint64 implements raft.StableStore.
func (w *diskWatch) SetUint64(key []byte, val uint64) error {
	return w.insist(func() error { return w.LogStore.SetUint64(key, val) })
}

// insist repeats a write that met a full disk until it succeeds or the watch ends.
func (w *diskWatch) insist(write func() error) error {
	for {
		err := w.try(write)
		if !isFull(err) {
			return err
		}
		if w.reserve.giveUp() {
			w.log.Warn().Err(err).Msg("disk full, reserve file given up")
			continue
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-w.stop:
			return err
		}
	}
}

// try runs one write and keeps the books on it.
func (w *diskWatch) try(write func() error) error {
	start := time.Now()
	w.mu.Lock()
	w.next++
	id := w.next
	w.inFlight[id] = start
	w.mu.Unlock()

	err := write()

	w.mu.Lock()
	delete(w.inFlight, id)
	switch {
	case err == nil:
		w.fullSince = time.Time{}
	case isFull(err) && w.fullSince.IsZero():
		w.fullSince = start
	}
	w.mu.Unlock()
	if w.written != nil {
		w.written.Observe(time.Since(start).Seconds())
	}
	if isFull(err) && w.full != nil {
		w.full.Inc()
	}
	return err
}

// stalled returns how long the oldest running write has been running.
func (w *diskWatch) stalled() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var longest time.Duration
	for _, start := range w.inFlight {
		longest = max(longest, time.Since(start))
	}
	return longest
}

// watchTime touches no disk. It ends with close.
func (w *diskWatch) watchTime() {
	tick := time.NewTicker(max(w.cfg.StallMax/20, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		if took := w.stalled(); took > w.cfg.StallMax {
			w.end(fmt.Errorf("a write to the log in %s has been hanging for %v", w.dir, took.Round(time.Millisecond)))
			return
		}
		if since := w.fullFor(); since > w.cfg.FullMax {
			w.end(fmt.Errorf("the disk of %s has been full for %v", w.dir, since.Round(time.Millisecond)))
			return
		}
	}
}

// fullFor returns how long writes have been refused without a success between.
func (w *diskWatch) fullFor() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fullSince.IsZero() {
		return 0
	}
	return time.Since(w.fullSince)
}

// end asks for the end of the process once. Should the process live on, as in
// tests, the watch over time has ended.
func (w *diskWatch) end(reason error) {
	w.exited.Do(func() {
		w.log.Error().Err(reason).Msg("disk beyond hope, ending the process")
		w.exit(reason)
	})
}

// watchSpace keeps the watermark and the reserve file. It ends with close.
func (w *diskWatch) watchSpace() {
	tick := time.NewTicker(min(time.Second, max(w.cfg.FullMax/10, time.Millisecond)))
	defer tick.Stop()
	for {
		w.lookAtSpace()
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
	}
}

// lookAtSpace runs on watchSpace's goroutine only. Any of its calls may hang on a
// frozen file system, which is why nobody waits for it.
func (w *diskWatch) lookAtSpace() {
	free, err := w.cfg.Free(w.dir)
	if err != nil {
		w.log.Warn().Err(err).Msg("free space unknown")
		return
	}
	w.free.Store(free)
	if low := free < w.cfg.Low; low != w.low.Swap(low) {
		w.log.Warn().Int64("free_bytes", free).Bool("low", low).Msg("disk space crossed the watermark")
	}
	if free >= minFree {
		// Room again, though perhaps nothing has been written since.
		w.mu.Lock()
		w.fullSince = time.Time{}
		w.mu.Unlock()
	}
	if free < w.cfg.Low+w.cfg.Reserve {
		return
	}
	if err := w.reserve.take(); err != nil {
		w.log.Warn().Err(err).Msg("reserve file not made")
	}
}
