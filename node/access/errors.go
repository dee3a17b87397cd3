package access

import "errors"

var (
	// ErrNoToken says that the request carries no bearer token.
	ErrNoToken = errors.New("a bearer token is required")
	// ErrBadToken says that the token is unknown, revoked, expired, or of a kind
	// that does not open the API. Which of them is not told to the caller.
	ErrBadToken = errors.New("the token is not valid")
	// ErrUnknownKey says that no access key has that id, or none any more.
	ErrUnknownKey = errors.New("the access key is not valid")
	// ErrExpiredKey says that the access key has ended.
	ErrExpiredKey = errors.New("the access key has expired")
	// ErrLostKey says that the cluster cannot open the access key's secret any more,
	// because the key that it was sealed with is gone. Its owner needs another one.
	ErrLostKey = errors.New("the access key's secret was sealed with a key that this cluster no longer has")
	// ErrNoKeeper says that this node cannot check the access key now: it has to ask
	// a voter, and none answered. Known keys go on working until the day ends (UTC).
	ErrNoKeeper = errors.New("no voter answered, which this node needs to check the access key")
	// ErrDenied says that the caller is known and may not do this.
	ErrDenied = errors.New("the token does not allow this")
)
