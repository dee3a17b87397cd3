package group

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Entry is a committed command.
type Entry struct {
	Index Index
	Data  []byte
}

// Batch is a piece of the log.
type Batch struct {
	// Entries are the commands in (after, Through], in order. Their data is shared:
	// do not change it.
	Entries []Entry
	// Through is the index that the batch reaches; indexes without an entry hold
	// nothing for the state. The next call passes it as after.
	Through Index
	// SnapshotNeeded says that the log no longer reaches back to after: take
	// OpenSnapshot and go on after its index.
	SnapshotNeeded bool
}

// Follow returns the committed commands after an index, waiting for the first
// until ctx ends; the batch is then empty and err nil, as a long-poll wants it.
// Any member serves it, with or without a quorum, from what its own FSM has
// applied, so a follower of it never runs ahead. The batch holds at most maxBytes
// of data, or one entry.
func (g *Group) Follow(ctx context.Context, after Index, maxBytes int) (Batch, error) {
	for {
		applied, changed := g.bridge.progress()
		if applied > after {
			batch, err := g.read(after, applied, maxBytes)
			if err != nil {
				return Batch{}, fmt.Errorf("follow %s: %w", g.cfg.Name, err)
			}
			return batch, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Batch{Through: after}, nil
		case <-g.closing:
			return Batch{}, fmt.Errorf("follow %s: %w", g.cfg.Name, ErrClosed)
		}
	}
}

// read collects entries up to a bound in bytes. Entries without a command count as
// read, so that a follower of a quiet group with elections does not ask again.
func (g *Group) read(after, through Index, maxBytes int) (Batch, error) {
	batch := Batch{Through: after}
	bytes := 0
	for i := after + 1; i <= through; i++ {
		var l raft.Log
		err := g.store.GetLog(uint64(i), &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			if batch.Through > after {
				return batch, nil // compacted while reading: the next call finds out
			}
			return Batch{Through: after, SnapshotNeeded: true}, nil
		}
		if err != nil {
			return Batch{}, fmt.Errorf("read entry %d: %w", i, err)
		}
		if l.Type == raft.LogCommand {
			if bytes += len(l.Data); bytes > maxBytes && len(batch.Entries) > 0 {
				return batch, nil
			}
			batch.Entries = append(batch.Entries, Entry{Index: i, Data: l.Data})
		}
		batch.Through = i
	}
	return batch, nil
}
