// Package state is the replicated model of the cluster: apps, functions,
// versions, aliases, assignments, limits, tokens, members, usage and the feature
// level. Voters, standbys and observers all build it from the same log.
//
// It is a pure function of that log. Inside it there is no clock, randomness,
// environment, I/O, goroutine, logger or dependence on map order; times, ids and
// defaults are chosen by whoever proposes a command and travel in it. An expected
// "no" is a value in the Result, the same on every replica. Only an entry that
// this release cannot read stops a Store (HaltError): skipping it would make
// replicas differ.
//
// Because every replica repeats every decision, changing what an existing
// command does (a validation rule, how shares are cut, how long something is
// kept) is a change of the protocol and needs a new feature level.
//
// # Reading
//
// A View is one immutable state, loaded with one atomic read; later commands
// leave it as it is. Everything reached from a View is shared and read-only.
//
// # Adding a command
//
// A message in command.proto and its place in the oneof; a case in draft.run; a
// handler that checks everything before it changes anything; a row in drawCommand
// of the property tests. New fields and commands belong to a new FeatureLevel,
// which the proposer puts into the command, so that a node of an older release
// halts instead of guessing. What a command stores goes into the snapshot in the
// same change, and a golden log and snapshot of that level join testdata.
//
// # What is kept, and for how long
//
//   - The newest KeepVersions versions of a function, and any older one that an
//     alias names. A deploy drops the rest with their assignments.
//   - The last number of a deleted function for ever, so that a name which is
//     deployed again does not repeat numbers; likewise the ids of removed nodes.
//   - Outcomes of commands with an id for ten minutes of state time, at most
//     8192. A retry inside that window changes nothing.
//   - Usage by hour for 35 days, then by day for 400 days.
//   - Expired tokens for a week, so that a person can see why one stopped.
package state
