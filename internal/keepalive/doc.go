// Package keepalive decides which idle instances a node keeps in memory: which
// goes first when memory is needed, and when an instance is worth starting before
// its call comes. It promises decisions only and does nothing itself.
//
// It is pure: no clock, no goroutine, no lock. Times come in with each call, so
// that the executor and a simulator run the same code.
package keepalive
