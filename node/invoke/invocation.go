package invoke

import (
	"fmt"
	"io"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
)

// Request is one invocation as its entry node accepted it: authenticated,
// within the body limit, and with an id. It is not changed after it is given
// to [Path.Invoke].
type Request struct {
	// ID is the request id, a ULID. Empty lets the path choose one.
	ID string
	// App and Function name the function; an empty App means "default".
	App, Function string
	// Qualifier is a version number, an alias, "$LATEST", or empty for the
	// alias "live".
	Qualifier string
	// Body is the event. The caller keeps it unchanged until Invoke returns.
	Body        []byte
	ContentType string
	// Trace is the W3C traceparent, passed on to the function.
	Trace string
	// Caller is who invokes, for the record: a token's id or a function's name.
	Caller string
	// Key says which calls belong together: those with the same one get the same version
	// of a weighted pair and, if the version wants affinity, the same node. Empty leaves
	// both to chance.
	Key string
	// Depth counts the invocations that led to this one through host calls;
	// the path refuses to go deeper than MaxDepth.
	Depth uint8
	// Deadline is when the caller gives up; zero means that the version's
	// timeout alone bounds the call.
	Deadline time.Time
	// Attributes are further facts for the function, such as the HTTP method
	// and path of an OpenFaaS-style call. May be nil.
	Attributes map[string]string
	// WantLogs asks for the end of the call's log in Response.LogTail.
	WantLogs bool
}

// Response is the outcome of an invocation that ran, well or badly. The caller
// must call Release once it is done with Body or Stream.
type Response struct {
	// RequestID is the id under which the call ran.
	RequestID string
	// Body is the whole answer when Stream is nil. It is valid until Release.
	Body []byte
	// Stream delivers the answer of a function that streams; nil otherwise.
	Stream      io.ReadCloser
	ContentType string
	// Status is the HTTP status that the function asked for; 0 means none.
	Status int
	// Headers are what the function asked to add to an HTTP answer, in its order; often
	// nil. A name may come more than once, as Set-Cookie does.
	Headers plugins.Attributes
	// FunctionError is set when the function itself failed; Body is then empty.
	FunctionError *plugins.FunctionError
	// Version is the version that ran, after aliases were resolved.
	Version state.VersionKey
	// Node is the node that ran it.
	Node state.NodeID
	// Cold tells that an instance had to be started for this call.
	Cold bool
	// Attempts is how many times the call was sent, at least 1.
	Attempts int
	// Steps are the parts of the time spent, in order.
	Steps []Step
	// Usage is what the call is charged for.
	Usage Usage
	// LogTail is the last part (4 KiB) of what the call logged, if asked for.
	LogTail []byte

	// ran is the executor's answer, and release what else is to be given back.
	ran     *executor.Response
	release func()
	// leave gives the call's place within its app's limits back.
	leave func()
}

// Release gives pooled memory back and closes the stream. It may be called more
// than once and on a nil Response.
func (r *Response) Release() {
	if r == nil {
		return
	}
	r.ran.Release()
	release, leave := r.release, r.leave
	r.ran, r.release, r.leave = nil, nil, nil
	if release != nil {
		release()
	}
	if leave != nil {
		leave()
	}
}

// Whole returns the answer as one piece, reading a stream to its end. It fails
// when the answer is longer than most bytes. What it returns is valid until
// Release.
func (r *Response) Whole(most int64) ([]byte, error) {
	if r.Stream == nil {
		return r.Body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Stream, most+1))
	if err != nil {
		return nil, fmt.Errorf("read streamed answer: %w", err)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("streamed answer exceeds %d bytes", most)
	}
	return body, nil
}

// OnRelease sets what Release calls. It is for whoever makes a Response.
func (r *Response) OnRelease(f func()) { r.release = f }

// Step is one part of an invocation's time.
type Step struct {
	// Name is a short constant word: place, hop, queue, start, init, run.
	Name string        `json:"name"`
	Took time.Duration `json:"took_ns"`
}

// Usage is what one invocation is charged for.
type Usage struct {
	// Billed is the run time rounded up to a millisecond.
	Billed time.Duration `json:"billed_ns"`
	// Init is the start-up time of a cold call, zero for a warm one.
	Init time.Duration `json:"init_ns"`
	// CPU is the processor time that the instance used during the call.
	CPU time.Duration `json:"cpu_ns"`
	// MemoryLimit and MemoryPeak are bytes.
	MemoryLimit int64 `json:"memory_limit_bytes"`
	MemoryPeak  int64 `json:"memory_peak_bytes"`
}
