// Package wire is the JSON of Covey's HTTP API: what the management routes
// take and give, the header names, and the error document. The server
// (node/api) and the client (node/client) share it, so that neither can drift
// from the other; openapi.yaml in node/api describes the same shapes to
// everybody else.
//
// It is plain data and imports nothing of ours, so that a program using the
// client links none of the server.
package wire
