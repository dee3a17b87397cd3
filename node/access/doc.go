// Package access decides who a caller is and what it may do. It knows bearer
// tokens and access keys, both with scopes; routes and errors on the wire are
// node/api's, AWS's signatures package sigv4's.
//
// A token is 256 random bits and is kept as its SHA-256 alone, so that neither
// a backup nor a copy of the Raft log opens anything. A slow hash would add
// nothing against a guess at 256 bits, and would be paid on each call.
//
// An access key is the exception, because a signature can only be checked with the
// secret: the cluster keeps it sealed (cluster/trust), voters open it, and all
// other nodes ask them for what follows from it and a day. See [Keyring].
package access
