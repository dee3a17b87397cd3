// Package local runs one function on this machine, without a cluster: the
// executor and the sandbox of a node, in a temporary directory, behind an HTTP
// endpoint on loopback. It is what `covey run` is made of.
//
// What the cluster adds is missing on purpose: aliases, limits, placement, other
// functions to call. Everything that touches the function itself is the node's.
package local
