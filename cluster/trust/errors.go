package trust

import "errors"

var (
	// ErrBadToken means that a join token is not of the form that this package
	// writes. The operator copied it incompletely or it is no join token.
	ErrBadToken = errors.New("malformed join token")

	// ErrWrongCA means that the other end is not authenticated by the expected
	// authority: it belongs to another cluster, or something is in between.
	ErrWrongCA = errors.New("certificate authority is not the expected one")

	// ErrNotOurs means that a certificate carries no identity of a node of
	// this cluster.
	ErrNotOurs = errors.New("certificate names no node of this cluster")

	// ErrNoAuthority means that this node does not hold the authority's key,
	// because it is no voter. Another node must sign.
	ErrNoAuthority = errors.New("this node does not hold the authority's key")

	// ErrOtherKey means that a secret was sealed with another key-encryption key
	// than the given one: that of another cluster, or of this one before it was
	// restored. It cannot be opened here.
	ErrOtherKey = errors.New("secret is sealed with another key")

	// ErrSealBroken means that a sealed secret was changed, or moved from the name
	// that it was sealed under.
	ErrSealBroken = errors.New("sealed secret is damaged")

	// ErrBadRequest means that a signing request is malformed, badly signed, or
	// asks for something that nodes are not given.
	ErrBadRequest = errors.New("bad certificate request")
)
