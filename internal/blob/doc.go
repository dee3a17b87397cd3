// Package blob is Covey's content-addressed store. It holds function code and,
// later, large payloads and objects under the SHA-256 of their bytes.
//
// What it promises:
//
//   - Put returns once the bytes are fsynced (file and directory) on min(2,
//     nodes) of the nodes that own the digest. Three nodes own it in the end.
//   - Open gives a read-only descriptor of bytes that this process has hashed
//     itself, once in its life. Bytes that do not match their name are never
//     handed out, neither to a caller nor to another node.
//   - A crash at any point leaves a blob whole or absent. Staging files are
//     swept when the store opens.
//   - A full disk is an error of the one call that met it. The store works
//     again when there is room, without a restart.
//
// Owners are the first three nodes of an injected ring order. A node that owns
// a digest that the cluster names, and does not have it, pulls it: that is the
// repair, and it follows by itself when an owner is removed or was silent for
// ten minutes. Copies on other nodes are caches. What nothing names for a day is
// deleted, and a daily scrub re-reads every file, sets rotten ones aside and
// fetches them anew.
//
// The package knows nothing of the network: a Transport is injected, and the
// Serve methods are what a transport's server calls.
package blob
