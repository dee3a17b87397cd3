// Package ledger is what the end-to-end tests and their function say to each
// other. The function (package function below) writes down every execution before
// it does anything else, in two places of which at least one survives whatever
// the test does to the node:
//
//   - a file in the instance's private directory, which a test opens soon after it
//     was made and keeps open. A write to it needs no help of the node;
//   - a line of the function's log, which the node keeps when an instance ends in
//     order and its directory goes.
//
// It is plain data, so that the function links nothing else.
package ledger
