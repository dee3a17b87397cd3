// Package sweep runs the simulator over sizes, loads, staleness and failures, and
// writes what came out: a table for the terminal, and the table and charts of
// docs/scheduling.md. A cell is one workload under one setting; all policies of a
// cell get the same calls.
package sweep
