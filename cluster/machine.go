package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// machine is the bridge from the sources of committed commands to the state.
// There are two: Raft, on voters and standbys, and the feed, on observers. A node
// that changes its role gets some commands from both, so the machine keeps its
// own position in the log and ignores what it has passed.
type machine struct {
	store *state.Store
	copy  *localCopy
	log   zerolog.Logger

	// apply serialises the sources.
	apply sync.Mutex

	mu       sync.Mutex
	position state.Index   // Everything up to here is in the state.
	changed  chan struct{} // Closed and replaced when position moves.
	halted   error         // A snapshot that cannot be read; guarded by mu.
}

var _ group.FSM = (*machine)(nil)

// applied is what Apply answers to a proposer.
type applied struct {
	result *clusterpb.Result
	err    error
}

// newMachine loads the node's own copy of the state, so that it can serve before
// anybody else was reached.
func newMachine(dir string, log zerolog.Logger) (*machine, error) {
	m := &machine{store: state.New(), log: log, changed: make(chan struct{})}
	c, position, err := openCopy(dir, m.store, log)
	if err != nil {
		return nil, err
	}
	m.copy, m.position = c, position
	return m, nil
}

// View returns the state after the last command.
func (m *machine) View() *state.View { return m.store.View() }

// Halted returns why the node no longer follows the log, or nil.
func (m *machine) Halted() error {
	if err := m.store.Halted(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.halted
}

// Position returns the index up to which the log is in the state, and a channel
// that is closed when it moves.
func (m *machine) Position() (state.Index, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.position, m.changed
}

// Apply implements group.FSM.
func (m *machine) Apply(index group.Index, data []byte) any {
	m.apply.Lock()
	defer m.apply.Unlock()
	i := state.Index(index)
	if position, _ := m.Position(); i <= position {
		return applied{err: fmt.Errorf("apply command %d: %w", i, state.ErrIndex)}
	}
	if err := m.Halted(); err != nil {
		return applied{err: err}
	}
	result, err := m.store.Apply(i, data)
	switch {
	case errors.Is(err, state.ErrIndex):
		// A snapshot's state may be ahead of the index it was taken at.
	case err != nil:
		m.log.Error().Err(err).Uint64("index", uint64(i)).Msg("state stopped applying")
		return applied{err: err}
	default:
		m.copy.append(i, data, m.store.View())
	}
	m.advance(i)
	return applied{result: result, err: err}
}

// skipTo notes that the log holds nothing for the state up to an index.
func (m *machine) skipTo(index state.Index) {
	m.apply.Lock()
	defer m.apply.Unlock()
	if position, _ := m.Position(); index > position && m.Halted() == nil {
		m.advance(index)
	}
}

// Snapshot implements group.FSM. A halted state must not become a snapshot: it
// would lack the commands that it could not apply.
func (m *machine) Snapshot() (group.Snapshot, error) {
	if err := m.Halted(); err != nil {
		return nil, fmt.Errorf("capture state: %w", err)
	}
	return captured{m.View()}, nil
}

// Restore implements group.FSM. A snapshot that the state has passed is ignored.
func (m *machine) Restore(index group.Index, r io.Reader) error {
	m.apply.Lock()
	defer m.apply.Unlock()
	if position, _ := m.Position(); state.Index(index) <= position && position > 0 {
		return nil
	}
	err := m.restoreLocked(state.Index(index), r)
	if errors.Is(err, state.ErrTooNew) {
		// Raft would end the process. The node stays up for reads of what it has.
		m.log.Error().Err(err).Uint64("index", uint64(index)).Msg("state stopped applying")
		m.mu.Lock()
		m.halted = err
		m.mu.Unlock()
		return nil
	}
	return err
}

// replace takes a snapshot whatever the position was: the log has another
// history since a recovery.
func (m *machine) replace(index state.Index, r io.Reader) error {
	m.apply.Lock()
	defer m.apply.Unlock()
	return m.restoreLocked(index, r)
}

func (m *machine) restoreLocked(index state.Index, r io.Reader) error {
	if err := m.store.Restore(r); err != nil {
		return fmt.Errorf("restore state at %d: %w", index, err)
	}
	view := m.View()
	index = max(index, view.Index())
	m.copy.rewrite(index, view)
	m.mu.Lock()
	m.halted = nil
	m.mu.Unlock()
	m.advance(index)
	return nil
}

// advance moves the position and wakes everybody who waits for it.
func (m *machine) advance(index state.Index) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.position = index
	close(m.changed)
	m.changed = make(chan struct{})
}

// Close writes what is left to the node's copy.
func (m *machine) Close() error {
	m.apply.Lock()
	defer m.apply.Unlock()
	return m.copy.Close()
}

// captured is a view on its way into a snapshot. Views never change, so nothing
// has to be copied or released.
type captured struct{ view *state.View }

var _ group.Snapshot = captured{}

func (c captured) Write(w io.Writer) error { return c.view.Snapshot(w) }

func (c captured) Release() {}
