package cluster

import "errors"

var (
	// ErrNoLeader means that no leader was found before the context ended: the
	// control plane has no quorum, or this node reaches nobody. The command was
	// not proposed. Known functions go on running.
	ErrNoLeader = errors.New("control plane has no leader")

	// ErrOutcomeUnknown means that a command was on its way when the context
	// ended. It may still be applied; ask the state, or propose it again under
	// the same id.
	ErrOutcomeUnknown = errors.New("outcome of the command is unknown")

	// ErrOverloaded means that too many commands are in flight. Nothing was
	// changed; retry after a moment.
	ErrOverloaded = errors.New("control plane is overloaded")

	// ErrDiskFull means that the leader's disk is below its watermark. Nothing was
	// changed; space must be made first.
	ErrDiskFull = errors.New("disk of the control plane's leader is almost full")

	// ErrTooLarge means that a command is larger than the log takes. Nothing was
	// changed.
	ErrTooLarge = errors.New("command is too large")

	// ErrRemoved means that the node was removed from the cluster. Its id never
	// comes back: wipe its data directory and join again.
	ErrRemoved = errors.New("node was removed from the cluster")

	// ErrWouldLoseQuorum means that a node was not removed, because the voters that
	// are left would have no live majority. Bring one back first.
	ErrWouldLoseQuorum = errors.New("the remaining voters would have no quorum")

	// ErrUnknownNode means that no member has that id.
	ErrUnknownNode = errors.New("no such node")

	// ErrUnreachable means that no known address of the node answered.
	ErrUnreachable = errors.New("node is unreachable")

	// ErrExists means that the data directory already holds a node.
	ErrExists = errors.New("data directory already holds a node")

	// ErrNotFounded means that the data directory holds no node: it needs Init or
	// Join first.
	ErrNotFounded = errors.New("data directory holds no node")

	// ErrForeign means that the data directory or the token belongs to another
	// cluster.
	ErrForeign = errors.New("belongs to another cluster")

	// ErrLocked means that another process uses the data directory.
	ErrLocked = errors.New("data directory is in use by another process")

	// ErrBadCredential means that a join token is unknown, expired or used up.
	ErrBadCredential = errors.New("join token is not accepted")

	// ErrClosed is returned after Close.
	ErrClosed = errors.New("cluster is closed")

	// ErrNotHere means that this node cannot answer and another must be asked: it
	// lacks the authority's key, or does not have what an observer asked for.
	ErrNotHere = errors.New("another node must be asked")

	// ErrDenied means that the calling node may not do that.
	ErrDenied = errors.New("node is not allowed to do that")

	// ErrTooNew means that the cluster's state needs a newer release than this
	// node runs. It serves reads of its last state until it is upgraded.
	ErrTooNew = errors.New("cluster is of a newer release than this node")
)
