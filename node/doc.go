// Package node puts the parts of Covey together on one machine: it makes or
// resumes the node's identity, starts cluster, executor, scheduler, peer link and
// HTTP API in order, connects them, and takes them apart in the order that lets
// calls finish and leadership move before anything is closed.
//
// The parts do not know each other. What one needs of another it gets here, as a
// function or a small interface.
package node
