package frame

import "errors"

var (
	// ErrNotStarted is wrapped by every error after which the call certainly did not start: it was refused,
	// or the connection failed before the call's last byte left. Such a call may be sent again.
	ErrNotStarted = errors.New("call did not start")

	// ErrClosed is wrapped by the error of every call on a session that has ended, whatever the transport
	// said. Without ErrNotStarted beside it the outcome of the call is unknown.
	ErrClosed = errors.New("session closed")

	// ErrProtocol is wrapped when the other side broke the wire format. The session ends with it.
	ErrProtocol = errors.New("protocol violation")

	// ErrTooLarge is wrapped when a head or a body exceeds its limit.
	ErrTooLarge = errors.New("too large")
)
