package plugintest

import (
	"context"
	"testing"

	"github.com/covey-dev/covey/plugins"
)

// Options says how the program under test is to be started.
type Options struct {
	// Env is added to its environment.
	Env map[string]string
	// Memory is its limit in bytes; zero means the host's default.
	Memory int64
	// Concurrency is how many calls one instance takes at once; zero means 1. All calls of one Function
	// shall go to one instance as long as they fit.
	Concurrency int
	// Host serves its host calls. Nil refuses them.
	Host plugins.HostHandler
}

// Function is the program under test as its host runs it. When its process has ended, the next Invoke starts another.
type Function interface {
	// Invoke runs one call. The host ends the instance if ctx's deadline passes.
	Invoke(ctx context.Context, call *plugins.Call) (*plugins.Reply, error)
	// Logs returns the lines that were logged so far under a request id.
	Logs(requestID string) ([]plugins.LogLine, error)
}

// Capability is something that a host may lack.
type Capability string

// The capabilities that the suite knows.
const (
	// EnforcesMemory: an instance that takes more memory than Options.Memory is ended.
	EnforcesMemory Capability = "enforces memory limits"
	// ServesHostCalls: Options.Host is honoured.
	ServesHostCalls Capability = "serves host calls"
	// Streams: a reply may be a stream.
	Streams Capability = "streams output"
	// TellsCancellation: a handler learns that nobody waits for it any more.
	TellsCancellation Capability = "tells the handler of cancellation"
	// TellsReturnedErrors: an error that a handler means is told apart from one that it falls over.
	TellsReturnedErrors Capability = "tells returned errors from others"
	// TellsFullContext: a handler learns the attempt, the node, the content type and the attributes of its call.
	TellsFullContext Capability = "tells the handler attempt, node, content type and attributes"
)

// Target is a host and the program under test.
type Target struct {
	// Start makes the function ready to be invoked; the first process may start later. The host ends it with t. Required.
	Start func(t *testing.T, o Options) Function
	// Lacks names what this host cannot do. Its cases are skipped, visibly.
	Lacks []Capability
}
