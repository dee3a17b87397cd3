package group

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// bridge is Raft's state machine: it passes everything to the injected FSM and
// remembers how far it got, which Raft's own applied index does not tell: that
// one counts what was handed over, not what was done.
type bridge struct {
	fsm FSM

	mu      sync.Mutex
	applied Index
	bytes   int64         // applied since the last snapshot
	count   uint64        // entries applied since the last snapshot
	changed chan struct{} // closed and replaced when applied moves
}

var _ raft.ConfigurationStore = (*bridge)(nil)

func newBridge(fsm FSM) *bridge {
	return &bridge{fsm: fsm, changed: make(chan struct{})}
}

// Apply implements raft.FSM.
func (b *bridge) Apply(l *raft.Log) any {
	result := b.fsm.Apply(Index(l.Index), l.Data)
	b.advance(Index(l.Index), int64(len(l.Data)))
	return result
}

// StoreConfiguration implements raft.ConfigurationStore. The state does not care,
// but Raft snapshots only what the state machine has seen, and refuses to snapshot
// while the newest entry is a configuration that it has not.
func (b *bridge) StoreConfiguration(index uint64, _ raft.Configuration) {
	b.advance(Index(index), 0)
}

// advance records that the state includes index and wakes everybody who waits.
func (b *bridge) advance(index Index, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applied = index
	b.bytes += size
	b.count++
	close(b.changed)
	b.changed = make(chan struct{})
}

// progress returns the applied index and a channel that is closed when it moves.
func (b *bridge) progress() (Index, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.applied, b.changed
}

// sinceSnapshot returns what gathered since the last snapshot was started.
func (b *bridge) sinceSnapshot() (entries uint64, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count, b.bytes
}

// Snapshot implements raft.FSM.
func (b *bridge) Snapshot() (raft.FSMSnapshot, error) {
	s, err := b.fsm.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("capture state: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count, b.bytes = 0, 0
	return &persister{s}, nil
}

// Restore implements raft.FSM.
func (b *bridge) Restore(r io.ReadCloser) error {
	defer r.Close()
	index, err := snapshotIndex(r)
	if err != nil {
		return err
	}
	if err := b.fsm.Restore(index, r); err != nil {
		return fmt.Errorf("restore state at %d: %w", index, err)
	}
	b.mu.Lock()
	b.count, b.bytes = 0, 0
	b.mu.Unlock()
	b.advance(index, 0)
	return nil
}

// snapshotIndex unwraps the reader that our snapshot store opened; Raft counts
// bytes around it.
func snapshotIndex(r io.ReadCloser) (Index, error) {
	for {
		switch v := r.(type) {
		case *snapshotReader:
			return v.index, nil
		case raft.ReadCloserWrapper:
			r = v.WrappedReadCloser()
		default:
			return 0, fmt.Errorf("restore state: snapshot of unknown origin %T", r)
		}
	}
}

// persister writes a captured state into Raft's sink.
type persister struct {
	Snapshot
}

var _ raft.FSMSnapshot = (*persister)(nil)

// Persist implements raft.FSMSnapshot. Raft cancels the sink on an error and
// closes it again after success, which does nothing.
func (p *persister) Persist(sink raft.SnapshotSink) error {
	if err := p.Write(sink); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
