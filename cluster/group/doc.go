// Package group is the one home of Raft: everything that one replicated group
// needs besides the state it replicates. It holds the peer port shared by all
// protocols between nodes (Mux), the stores and the watch over the disk below
// them, elections, who votes, bounded proposals, linearizable reads, snapshots,
// the feed that observers follow, and the offline repair of a group that lost
// its quorum for good.
//
// The package is used twice, for the control plane and for events, so it knows
// nothing of what it replicates: the state machine is an injected FSM, known
// servers and their addresses come from an injected function, certificates from
// an injected TLS configuration.
//
// # Promises
//
// A nil error from Propose means that a majority had the entry on disk and that
// it was applied here. ErrOutcomeUnknown means that nobody can tell, so an entry
// must carry an id or be idempotent. Any other error means that the entry will
// never be applied. ReadIndex makes a local read linearizable. Work registered
// with LeaderWork runs under one context that ends with the leadership.
//
// # What it does not do
//
// It does not forward proposals to the leader, does not decide who belongs to
// the cluster, and never asks gossip. It ends the process, through the injected
// Exit, only when the disk hangs or stays full: a leader that cannot write keeps
// its leadership otherwise, because heartbeats need no disk.
//
// The heartbeat path is explained at type transport.
package group
