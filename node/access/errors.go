package access

import "errors"

var (
	// ErrNoToken says that the request carries no bearer token.
	ErrNoToken = errors.New("a bearer token is required")
	// ErrBadToken says that the token is unknown, revoked, expired, or of a kind
	// that does not open the API. Which of them is not told to the caller.
	ErrBadToken = errors.New("the token is not valid")
	// ErrDenied says that the caller is known and may not do this.
	ErrDenied = errors.New("the token does not allow this")
)
