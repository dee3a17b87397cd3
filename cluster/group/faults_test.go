package group

import (
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// faultyStore is a log store whose writes can be made slow, stuck or refused.
type faultyStore struct {
	LogStore

	mu    sync.Mutex
	delay time.Duration // the next write waits so long
	gate  chan struct{} // writes wait until it is closed
	full  bool          // writes meet a full disk
	fulls int           // how many did
}

func (f *faultyStore) stall(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.delay = d }

func (f *faultyStore) setFull(full bool) { f.mu.Lock(); defer f.mu.Unlock(); f.full = full }

func (f *faultyStore) refused() int { f.mu.Lock(); defer f.mu.Unlock(); return f.fulls }

// hang makes writes wait; the returned function ends it.
func (f *faultyStore) hang() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.gate = gate
	return sync.OnceFunc(func() {
		close(gate)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gate = nil
	})
}

func (f *faultyStore) wait() error {
	f.mu.Lock()
	delay, gate := f.delay, f.gate
	f.delay = 0
	f.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
	if gate != nil {
		<-gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		f.fulls++
		return syscall.ENOSPC
	}
	return nil
}

func (f *faultyStore) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }

func (f *faultyStore) StoreLogs(logs []*raft.Log) error {
	if err := f.wait(); err != nil {
		return err
	}
	return f.LogStore.StoreLogs(logs)
}

func (f *faultyStore) SetUint64(key []byte, v uint64) error {
	if err := f.wait(); err != nil {
		return err
	}
	return f.LogStore.SetUint64(key, v)
}

// memStore is a store without a file.
type memStore struct{ *raft.InmemStore }

func newMemStore() *faultyStore {
	return &faultyStore{LogStore: memStore{raft.NewInmemStore()}}
}

// faults gives each node of a world a faulty store.
type faults struct {
	mu     sync.Mutex
	stores map[NodeID]*faultyStore
}

func newFaults() *faults { return &faults{stores: map[NodeID]*faultyStore{}} }

func (f *faults) tune(c *Config) {
	id, below := c.ID, c.Disk.Wrap
	c.Disk.Wrap = func(inner LogStore) LogStore {
		f.mu.Lock()
		defer f.mu.Unlock()
		if below != nil {
			inner = below(inner)
		}
		f.stores[id] = &faultyStore{LogStore: inner}
		return f.stores[id]
	}
}

func (f *faults) of(nd *node) *faultyStore {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stores[nd.id]
}
