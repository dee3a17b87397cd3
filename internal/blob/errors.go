package blob

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrNotFound says that no copy exists where it was looked for: on this node
	// for the Serve methods, on any reachable node for Open.
	ErrNotFound = errors.New("blob not found")

	// ErrBadDigest says that a text is not a digest.
	ErrBadDigest = errors.New("not a sha256 digest")

	// ErrMismatch says that bytes do not have the digest they were sent under.
	ErrMismatch = errors.New("blob does not match its digest")

	// ErrNoSpace says that the disk is full or under the configured free space.
	// Nothing was kept; the call may be repeated once there is room.
	ErrNoSpace = errors.New("no space for blob")

	// ErrTooLarge says that a blob exceeds Config.SizeMax.
	ErrTooLarge = errors.New("blob too large")

	// ErrBusy says that too many blobs are being received at once. Try again.
	ErrBusy = errors.New("too many blobs being received")

	// ErrBadChunk says that a chunk contradicts its own blob's size or limits.
	ErrBadChunk = errors.New("malformed chunk")

	// ErrNotDurable says that Put could not reach enough owners. The bytes may be
	// kept on some nodes, but nothing may name them. Repeating Put is safe.
	ErrNotDurable = errors.New("blob not durable")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("blob store closed")
)

// NotDurableError tells how far a Put came. It matches ErrNotDurable and its
// causes.
type NotDurableError struct {
	Digest     Digest
	Have, Need int
	Causes     []error
}

// Error names the digest, the counts and every node's cause.
func (e *NotDurableError) Error() string {
	msg := fmt.Sprintf("%v: %s is on %d of %d owners", ErrNotDurable, e.Digest, e.Have, e.Need)
	if cause := errors.Join(e.Causes...); cause != nil {
		msg += ": " + cause.Error()
	}
	return msg
}

// Unwrap makes the sentinel and the causes matchable.
func (e *NotDurableError) Unwrap() []error {
	return append([]error{ErrNotDurable}, e.Causes...)
}

// diskError names a full disk by our own error, and keeps the cause.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
