// Package frame is the wire between a node and its plugins, and between two nodes: length-prefixed frames
// over a reliable byte stream, many calls multiplexed on one connection, in both directions.
//
// The package has three layers. [Header], [Reader] and [Writer] move single frames; the Writer combines the
// frames of concurrent callers into one system call and knows which of them left this process whole.
// [Session] runs calls over one connection: bodies of any size, streams under flow control, cancellation.
// [Invoke], [Result], [Failure] and their kin are the messages, in a compact binary form of their own, so
// that a function which links this package links no serialisation library.
//
// It promises that a caller whose call certainly did not start is told so ([ErrNotStarted]). It does not
// retry, authenticate or log, and it imports nothing but the standard library.
package frame
