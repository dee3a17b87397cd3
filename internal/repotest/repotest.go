// Package repotest holds the house rules of this repository as tests: which
// package may import which, what must be documented, how long a file may grow.
// It has no code of its own to import; run it with go test.
package repotest
