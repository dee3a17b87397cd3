// Package cluster makes machines one cluster: birth and joining, who is a
// member, the replicated state of the control plane, and authenticated
// connections between nodes.
//
// It composes the packages below it: trust (who may speak), gossip (who is
// likely there), group (Raft), and state (what the commands mean). Everything
// privileged is decided by the replicated state; gossip only says whom to try
// first.
//
// # Life of a node
//
// A data directory is made once, by Init (a new cluster), Join (a member of an
// existing one) or Restore (a new cluster with the contents of a backup). After
// that Open resumes it, for ever: a node that finds none of its peers keeps
// trying and never founds a cluster of its own. Run does the node's part of the
// cluster's work until its context ends.
//
// # Reads and writes
//
// View returns this node's copy of the state at the cost of a pointer load; it
// may be behind. Consistent returns one that is not. Propose commits a command
// from any node: it finds the leader, retries under the same command id until
// the context ends, and returns when the result is visible in this node's View.
//
// Every node has the state. Voters and standbys get it from Raft; all others,
// the observers, follow a feed of committed commands from any Raft member. Each
// node keeps what it has applied on disk, so it restarts and serves reads
// without a quorum.
//
// # What it does not do
//
// It does not place functions, does not run them and knows no HTTP.
package cluster
