// Package link carries invocations between two nodes: frames over a few
// long-lived mTLS connections per pair, multiplexed by id with write combining,
// and a small pool of further connections for large bodies.
//
// What it promises its caller, the invocation path:
//
//   - Every error after which the call certainly did not start wraps
//     ErrNotStarted; without it the outcome is unknown. The receiving side's own
//     errors arrive as the same Go errors, whatever the transport said.
//   - The load of the receiver comes with each answer, refusals included.
//   - A link that breaks is reported at once through Config.OnState, and again
//     when it is back. In between calls fail at once. Reconnecting goes on for
//     as long as the node is not forgotten.
//   - Cancelling the context cancels the call there; the deadline travels as
//     remaining time, so clocks need not agree.
//
// It neither retries nor chooses nodes, and trusts the connections that Dial and
// the listener give it to be authenticated.
package link
