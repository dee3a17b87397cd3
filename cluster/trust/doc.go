// Package trust holds what makes a node believe another one: the cluster's
// certificate authority, the certificates it issues to nodes, the join token
// that carries its hash to a new machine, and the files all of that lies in.
//
// Every cluster has one certificate authority, an ECDSA P-256 key made when
// the cluster is founded. A node's certificate names the cluster and the node
// in one URI, and nothing else about the node: what a node may do is decided
// by the replicated state, which the TLS configurations here consult in every
// handshake. A removed node is therefore refused although its certificate has
// not expired.
//
// The authority's key and the key-encryption key lie on voters only. This
// package stores and wipes them; who is a voter is decided elsewhere. Seal and
// Unseal are what the second is for: secrets in the replicated state, which is in
// every node's log, snapshots and backups.
package trust
