package covey

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Option changes how a function is served.
type Option func(*options)

type options struct {
	init     []func(context.Context) error
	shutdown []func()
	// become makes the process a runtime: it says what to run once SETUP has told for whom.
	become func(context.Context, *Setup) (RuntimeHandler, error)
}

// OnInit runs f once in each instance before its first call. If f fails or panics, the instance ends and the
// calls that wait for it fail with its error, or start another instance. The time counts as cold start.
func OnInit(f func(ctx context.Context) error) Option {
	return func(o *options) { o.init = append(o.init, f) }
}

// OnShutdown runs f when the node has asked the process to end and its last call has ended. The process ends when f
// returns, and after a second in any case. A process that crashes, or whose node does, does not come to it.
func OnShutdown(f func()) Option {
	return func(o *options) { o.shutdown = append(o.shutdown, f) }
}

// Serve runs the function and does not return. handler owns payload and may keep it; what it returns must
// not change afterwards. handler must be safe for concurrent use if the function is deployed with a
// concurrency above 1. An error that wraps an *[Error] reaches the caller with its type.
func Serve(handler func(ctx context.Context, payload []byte) ([]byte, error), opts ...Option) {
	serve(func(c *call) ([]byte, error) { return handler(c, c.payload) }, opts)
}

// ServeJSON is [Serve] for a handler whose input and output are JSON. An empty payload gives the zero value of In. A
// payload that does not decode is answered with an error of type InvalidInput without running handler.
func ServeJSON[In, Out any](handler func(ctx context.Context, in In) (Out, error), opts ...Option) {
	serve(func(c *call) ([]byte, error) {
		var in In
		if len(c.payload) > 0 {
			if err := json.Unmarshal(c.payload, &in); err != nil {
				return nil, &Error{Type: "InvalidInput", Message: err.Error()}
			}
		}
		c.result.ContentType = "application/json"
		out, err := handler(c, in)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(out)
		if err != nil {
			return nil, fmt.Errorf("encode output: %w", err)
		}
		return b, nil
	}, opts)
}

// ServeStream is [Serve] for a handler that writes its output piece by piece; each Write is sent at once and waits
// while the reader is behind. Content type, status and attributes must be set before the first Write. An
// error after it cuts the output off, which the caller notices.
func ServeStream(handler func(ctx context.Context, payload []byte, w io.Writer) error, opts ...Option) {
	serve(func(c *call) ([]byte, error) { return nil, handler(c, c.payload, (*streamWriter)(c)) }, opts)
}

// serve runs the process's one function.
func serve(run func(*call) ([]byte, error), opts []Option) {
	if os.Getenv(cookieKey) != cookieValue {
		fmt.Fprintln(os.Stderr, "This program is a Covey function; a node starts it.\nDeploy it with: covey deploy NAME "+os.Args[0])
		os.Exit(2)
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	r := &runtime{run: run, started: time.Now()}
	if err := r.serve(&o); err != nil {
		fmt.Fprintln(os.Stderr, "covey:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
