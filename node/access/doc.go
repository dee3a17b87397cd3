// Package access decides who a caller is and what it may do. It knows bearer
// tokens with scopes; requests, routes and errors on the wire are node/api's.
//
// A token is 256 random bits and is kept as its SHA-256 alone, so that neither
// a backup nor a copy of the Raft log opens anything. A slow hash would add
// nothing against a guess at 256 bits, and would be paid on each call.
package access
