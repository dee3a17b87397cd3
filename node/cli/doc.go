// Package cli is the command line: the cobra tree of `covey`, where flags,
// environment and file become configuration, and what people and scripts see.
//
// Data goes to standard output, everything else to standard error. No command
// asks a question or needs a terminal; a progress bar appears only on one. The
// exit codes are documented in exit.go and are part of the interface.
package cli
