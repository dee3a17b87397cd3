// Package workload makes the calls that a simulation is driven by: generators in the
// shape of published traces, adverse ones (spikes, flash crowds, modulated arrivals,
// heavy tails), and readers of the public Azure Functions trace files.
//
// A workload is a set of functions and a sequence of calls that can be walked any
// number of times and is the same each time, so that policies are compared on common
// random numbers. A generator is a function of its configuration and seed alone: no
// clock, no package state, no dependence on the order of maps. The sequences do not
// depend on what the simulated cluster does (open arrivals).
//
// It imports nothing of the scheduler. Walks may run concurrently.
package workload
