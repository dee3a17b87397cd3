// Package scheduler decides per invocation where it runs. It holds no state of
// the cluster's own: it is told of nodes, links, warm functions and outcomes,
// and answers in under a microsecond without I/O, without the Raft leader and
// without waiting for gossip.
//
// A call with a key, of a version that wants affinity, goes to the key's node on the
// ring, and only when that refuses to the next one. All others, in order:
//
//  1. A free warm slot on this node.
//  2. The candidate set: the first k nodes that may run the version on a
//     consistent-hash ring, k grown by arrival rate × duration, and the nodes
//     announced as warm. A node that pushed an idle token is preferred; else the
//     cheaper of two random members by local estimate, kept within (1+ε) of the
//     mean, with a little noise against herding.
//  3. The receiver keeps what it can take: ShouldTake. A refusal tells how busy it
//     is, and Place weighs going back there against a node not asked yet. A call is
//     forwarded twice at most; then it must be kept.
//  4. ShouldStart tells a node when another instance is worth its cold start.
//
// Estimates are this node's own: the load in the last reply from there, which
// fades, plus what was sent since, which does not. What a node may run comes from
// the replicated assignment alone; gossip only says where a function is warm.
//
// Scheduler is safe for concurrent use. It starts no goroutines and reads no
// clock: the time comes in with each call, so that a simulator can drive it.
package scheduler
