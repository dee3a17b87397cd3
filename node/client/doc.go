// Package client talks to a Covey cluster over HTTP. It takes the addresses of
// several nodes and needs any one of them to answer.
//
// It sends a call again when that is right, always under the same request id:
// a call that certainly did not start goes to another node; one whose outcome
// is unknown (the connection broke after the request was written) is sent again
// with a mark that lets it run only if the function declares itself idempotent.
// So a caller sees a clear answer, a clear refusal, or [*UnknownOutcomeError],
// and nothing runs twice that must not.
//
// A Client is safe for concurrent use.
package client
