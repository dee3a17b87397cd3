// Package e2e tests the built binary: real `covey start` processes on loopback,
// real functions, kill -9. It has tests alone.
//
// Programs are built once per run (main_test.go); a test makes a cluster
// (cluster_test.go) of nodes (process_test.go) and speaks to it as a user would,
// through the command line and node/client. What ran is known from a ledger that
// the function itself keeps (ledger_test.go), never from what the platform says
// about itself. Timings are the default ones, so most of a test's time is waiting
// for elections and promotions, and tests run many at a time.
//
// What the previous release left lies in testdata/previous and is taken over by this
// one (takeover_test.go); its binary, built from the history, and this one are nodes of
// one cluster (upgrade_test.go).
//
// Long counts need COVEY_SOAK=1. Tests that need root fail without it when CI=true.
package e2e
