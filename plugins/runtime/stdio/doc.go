// Package stdio is what the runtimes share whose function is a program that reads its event from standard
// input and answers on standard output: how a handler names the program and its arguments ([Words]), what a call
// looks like in the environment ([Environment]), and what standard error means ([Stderr]).
//
// It starts nothing. The package for `exec` runs such a program as a process, the one for `wasm` inside its own.
package stdio
