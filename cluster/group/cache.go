package group

import (
	"sync"

	"github.com/hashicorp/raft"
)

// logCache keeps the newest log entries in memory, bounded in bytes, for
// followers and observers, who all ask for the same ones. Raft's own cache is
// bounded by a count, which says nothing about memory.
type logCache struct {
	LogStore
	max int

	mu     sync.RWMutex
	bytes  int
	oldest uint64 // entries oldest..newest are held without a gap; 0 when empty
	newest uint64
	held   map[uint64]*raft.Log
}

var _ LogStore = (*logCache)(nil)

// newLogCache starts empty: after a restart the file answers first.
func newLogCache(inner LogStore, max int) *logCache {
	return &logCache{LogStore: inner, max: max, held: make(map[uint64]*raft.Log)}
}

// entrySize is what an entry costs in memory, roughly.
func entrySize(l *raft.Log) int { return len(l.Data) + len(l.Extensions) + 128 }

// GetLog implements raft.LogStore. The entry's data is shared with the cache.
func (c *logCache) GetLog(index uint64, out *raft.Log) error {
	c.mu.RLock()
	l, ok := c.held[index]
	c.mu.RUnlock()
	if ok {
		*out = *l
		return nil
	}
	return c.LogStore.GetLog(index, out)
}

// StoreLog implements raft.LogStore.
func (c *logCache) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Only what is on disk enters the cache.
func (c *logCache) StoreLogs(logs []*raft.Log) error {
	if err := c.LogStore.StoreLogs(logs); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range logs {
		c.addLocked(l)
	}
	return nil
}

// addLocked appends one entry and drops the oldest ones that no longer fit. The
// newest always stays, however large.
func (c *logCache) addLocked(l *raft.Log) {
	if c.oldest != 0 && l.Index != c.newest+1 {
		// A gap or a rewritten suffix: what is held may be stale.
		c.clearLocked()
	}
	if c.oldest == 0 {
		c.oldest = l.Index
	}
	c.newest = l.Index
	c.held[l.Index] = l
	c.bytes += entrySize(l)
	for c.bytes > c.max && c.oldest < c.newest {
		c.bytes -= entrySize(c.held[c.oldest])
		delete(c.held, c.oldest)
		c.oldest++
	}
}

// clearLocked forgets everything. Rewritten suffixes are rare, so nothing finer is
// worth its mistakes.
func (c *logCache) clearLocked() {
	clear(c.held)
	c.bytes, c.oldest, c.newest = 0, 0, 0
}

// DeleteRange implements raft.LogStore.
func (c *logCache) DeleteRange(first, last uint64) error {
	c.mu.Lock()
	if c.oldest != 0 && first <= c.newest && last >= c.oldest {
		c.clearLocked()
	}
	c.mu.Unlock()
	return c.LogStore.DeleteRange(first, last)
}
