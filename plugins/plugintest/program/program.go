// Package program is the vocabulary between the conformance suite and the program under test. It is apart from
// the suite so that the program links nothing of the host.
package program

// The environment of the program under test.
const (
	// EnvInit makes the program's initialisation fail: with an error (InitError), a panic (InitPanic), or by
	// exiting (InitExit).
	EnvInit = "CONFORMANCE_INIT"
	// EnvStream makes the program stream its output.
	EnvStream = "CONFORMANCE_STREAM"
)

// ArgRuntime is the argument that makes the Go program a runtime, which waits for SETUP to become the function.
const ArgRuntime = "runtime"

// Values of EnvInit.
const (
	InitError = "error"
	InitPanic = "panic"
	InitExit  = "exit"
)

// The operations of the program under test.
const (
	// OpEcho answers with the Data that came in, as {"data": …}.
	OpEcho = "echo"
	// OpContext answers with a [Seen].
	OpContext = "context"
	// OpError fails with an error of type Type and message Data.
	OpError = "error"
	// OpPanic panics (raises, throws) with Data.
	OpPanic = "panic"
	// OpExit ends the process with status N.
	OpExit = "exit"
	// OpHang never returns and ignores cancellation.
	OpHang = "hang"
	// OpWait returns when the call is cancelled, and counts that.
	OpWait = "wait"
	// OpCancelled answers with the count of OpWait, as {"n": …}.
	OpCancelled = "cancelled"
	// OpHash answers with length and SHA-256 of Data, as {"n": …, "data": hex}.
	OpHash = "hash"
	// OpProduce answers with a JSON string of N bytes, quotes included.
	OpProduce = "produce"
	// OpStream writes N lines "line 0\n", "line 1\n", …, each by itself, then fails like OpError if Type is set.
	OpStream = "stream"
	// OpMeet returns when N calls of it run at once in one instance.
	OpMeet = "meet"
	// OpLog logs Data with the runtime's logger at level "info".
	OpLog = "log"
	// OpEnv answers with the environment variable Data, as {"data": …}.
	OpEnv = "env"
	// OpInvoke invokes the function Type with the payload Data. It answers {"data": output}, or fails with the
	// error that it got.
	OpInvoke = "invoke"
	// OpAllocate takes N bytes of memory, writes to all of it, and answers {"n": N}.
	OpAllocate = "allocate"
)

// Input is the payload of every call, as JSON.
type Input struct {
	Op   string `json:"op"`
	Type string `json:"type,omitempty"`
	Data string `json:"data,omitempty"`
	N    int    `json:"n,omitempty"`
}

// Output is the answer of most operations, as JSON.
type Output struct {
	Data string `json:"data,omitempty"`
	N    int    `json:"n,omitempty"`
}

// Seen is what a handler saw of its call.
type Seen struct {
	RequestID   string            `json:"request_id"`
	App         string            `json:"app"`
	Function    string            `json:"function"`
	Version     uint64            `json:"version"`
	Attempt     int               `json:"attempt"`
	Node        string            `json:"node"`
	Trace       string            `json:"trace"`
	ContentType string            `json:"content_type"`
	Attributes  map[string]string `json:"attributes"`
	// RemainingMS is the time left until the deadline; zero if there is none.
	RemainingMS int64 `json:"remaining_ms"`
}
