package group

import (
	"errors"
	"fmt"
)

var (
	// ErrOverloaded is returned when the bound on proposals or reads in flight is
	// reached. Nothing was started; retry after a moment.
	ErrOverloaded = errors.New("too many proposals in flight")

	// ErrOutcomeUnknown is returned when leadership was lost, the group closed or
	// the caller's context ended while an entry was on its way. It may be applied
	// later or never. Ask the state, or propose it again under the same id.
	ErrOutcomeUnknown = errors.New("outcome of the proposal is unknown")

	// ErrDiskLow is returned to clients while the leader's disk is below the soft
	// watermark. Nothing was started; space must be made first.
	ErrDiskLow = errors.New("disk space is below the watermark")

	// ErrTooLarge is returned for an entry above Limits.EntryBytes.
	ErrTooLarge = errors.New("proposal is too large")

	// ErrClosed is returned after Close, or before Run.
	ErrClosed = errors.New("group is closed")

	// ErrNotLeader is wrapped by every NotLeaderError, for callers that need no
	// address.
	ErrNotLeader = errors.New("not the leader")

	// ErrBootstrapped is returned by Bootstrap when the directory already holds a
	// group.
	ErrBootstrapped = errors.New("group already exists")

	// ErrNoSnapshot is returned when no snapshot was ever taken.
	ErrNoSnapshot = errors.New("no snapshot")

	// ErrDamaged is wrapped by Open's error when the newest snapshot or the log
	// cannot be read, or when entries between them are missing. The node must not
	// run with it: wipe its data directory and let it join as a new node.
	ErrDamaged = errors.New("stored state is damaged")

	// ErrUnknownProtocol is returned by a handshake that offers no protocol with a
	// listener.
	ErrUnknownProtocol = errors.New("no listener for the protocol")

	// ErrWrongPeer is wrapped when the node that answered is not the expected one.
	ErrWrongPeer = errors.New("peer is not the expected node")
)

// NotLeaderError says who leads, as far as this node knows. The proposal was not
// started. ID is empty while there is no leader.
type NotLeaderError struct {
	ID   NodeID
	Addr string
}

// Error describes the leader.
func (e *NotLeaderError) Error() string {
	if e.ID == "" {
		return "not the leader, and none is known"
	}
	return fmt.Sprintf("not the leader, which is %s at %s", e.ID, e.Addr)
}

// Unwrap makes errors.Is(err, ErrNotLeader) hold.
func (e *NotLeaderError) Unwrap() error { return ErrNotLeader }
