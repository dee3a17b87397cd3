// Package archive packs the folder of a function into a zip and unpacks it
// again on a node.
//
// Packing is reproducible: the same files give the same bytes, so the same
// digest, on any machine and on any day. Names are sorted, times are fixed,
// modes are 0444 or 0555, and what an operating system or an editor leaves in a
// folder is left out (see Options). The bytes are deflate's at a fixed level by
// a library that is written in plain Go and pinned in go.mod, and not the
// standard library's, whose output changes with the Go release that happened to
// build the tool. Storing without compression would be independent of any
// library, but code is kept on three nodes and fetched ahead by all, and text
// shrinks to a third. A test holds the digest of a fixed folder, so that an
// update of the library that changes bytes does not pass unseen; all it costs
// is that the next deploy of unchanged code uploads it once more.
//
// Unpacking trusts nothing: an archive is checked as a whole before the first
// file is written, everything is written beneath an os.Root, symbolic links
// last, and what goes wrong leaves nothing behind.
package archive
