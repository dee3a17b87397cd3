// Package manifest reads covey.yaml, the file in a function's folder that says
// what the function is: its name, its runtime, its limits, what of the folder is
// packed. docs/covey.schema.json describes the same file to editors, and a test
// holds the two together.
//
// Reading is strict, because a misspelt key would otherwise be a default in
// silence: every problem of a file is reported at once, each with its line.
package manifest
