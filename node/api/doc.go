// Package api is the front door of a node: HTTP for people, for their tools and
// for the programs that call functions. Any node answers any request.
//
// It authenticates and authorises (with node/access), reads the request within
// its limits, hands an invocation to an [Invoker], and turns what comes back
// into an answer. Three dialects invoke: the native one under /v1, Lambda's
// Invoke, and OpenFaaS's /function. Everything else under /v1 manages the
// cluster; openapi.yaml describes all of it, and a test holds the file against
// the routes.
//
// The invocation routes are the largest single cost of a warm call, so they do
// without middleware, reflection and per-request closures. The management
// routes are rare and written for the reader.
//
// What it does not do: decide where a call runs, retry it, or keep any state of
// the cluster.
package api
