// Package plugintest is the conformance suite for runtimes: what a function may rely on, whatever language it
// is written in and whoever hosts it. The program under test implements the operations of plugintest/program (in Go,
// plugins/examples/conformance); the host is anything that can start it and invoke it ([Target]).
//
// A host that cannot run some cases says so in Target.Lacks, and those cases are reported as skipped. There
// is no other way around a case.
package plugintest
