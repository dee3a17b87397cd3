// Package assign is the leader's part of placement: it decides how the
// cluster-wide max, queue and min of a version are cut into shares per node.
//
// Plan is a pure function from a view, the nodes' liveness and a time to
// changes. Loop wakes it under leadership, batches its changes and proposes
// them; the state machine checks each again, because the state has moved since.
// Planning twice without a change between changes nothing, so the leader writes
// only when something must change.
//
// # Rules
//
//   - A version with a max gets places on live, eligible members that do not
//     drain. Shares of max sum to max, shares of queue to queue, and follow each
//     other.
//   - A version without a max may run on every eligible node. Only if an alias
//     names it and it has a min is there an assignment, for its provisioned
//     instances.
//   - What is provisioned is the greatest of min and the windows that are open, by
//     the leader's wall clock.
//   - A version that no alias names has nothing provisioned: an old version must
//     not keep instances warm for ever.
//   - Reserved concurrency is cut evenly over the live members that may run the
//     function. What is taken from one is granted anew when it says that it uses it no
//     more, or when nothing of it can run any more: see ReserveLease.
//   - A member that the leader has not heard of for 15 s loses its shares. If
//     that would leave none, the shares stay where they are: nobody could use
//     them elsewhere.
//
// # What it does not promise
//
// Shares of max and queue are no leases. A node that is cut off goes on with the share that it
// knows, and a draining node finishes what it has begun, so a version may pass
// its max until they hear of the change. Shares are even: they do not weigh a
// node's size or load.
package assign
