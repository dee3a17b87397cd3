// Package executor runs functions on one node. It keeps a pool of instances for
// each version that is called here, gives every call a free slot of an instance,
// a place in a bounded queue or a refusal, and starts, supervises and ends the
// processes behind them through package sandbox.
//
// An instance goes starting → ready ⇄ busy → draining → dead and never back.
// What the package promises:
//
//   - A refused call certainly did not start: such errors wrap
//     plugins.ErrNotStarted, and sending the call again is safe.
//   - A timeout is reported only after everything that the instance started is
//     gone, and an instance with work in flight is never reaped.
//   - Everything that can pile up is bounded: queues by the version's limit,
//     instances by its maximum and by the node's memory, concurrent starts by
//     the processors, logs by their size on disk.
//   - A warm call takes no lock but that of its own version's pool, which is
//     never held across I/O or a callback.
//
// It knows nothing of the cluster: which versions exist, how many instances this
// node may have and where code comes from is told to it. Whether waiting calls
// justify another instance is asked of the Scale hook.
package executor
