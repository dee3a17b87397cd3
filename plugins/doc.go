// Package plugins is the boundary between a node and the processes that run functions, seen from the node.
//
// Two lanes lead to a plugin process. Calls travel as frames on a socket that the process inherits as
// descriptor 3 ([Conn], wire format in plugins/frame). go-plugin owns the process beside it: handshake,
// health and graceful stop over net/rpc on a Unix socket of the plugin's own ([Attach]); it attaches off the
// path, so that a call never waits for it.
//
// The package promises that an error tells whether the call certainly did not start ([ErrNotStarted]), and
// that a process which dies becomes one named error. It starts no process, limits nothing and imports
// nothing else of ours; executor does that. The other side is plugins/sdk/go.
package plugins
