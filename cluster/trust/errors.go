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

	// ErrBadRequest means that a signing request is malformed, badly signed, or
	// asks for something that nodes are not given.
	ErrBadRequest = errors.New("bad certificate request")
)
