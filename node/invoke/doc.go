// Package invoke is the invocation path of a node: it resolves a function's
// name to a version, asks the scheduler for a place, runs the call here or over
// the peer link, and retries by the rules of what may be repeated.
//
// It never touches Raft and never waits for gossip: everything it needs to know
// about the cluster it reads from one immutable view, so that calls keep being
// answered while the control plane has no quorum. Failures are told apart by
// one question, whether the call certainly did not start; see retry.go.
package invoke
