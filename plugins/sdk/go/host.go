package covey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// Setup is the function that a runtime's process is to become.
type Setup = frame.Setup

// RuntimeHandler runs one call of the function that the process has become. It returns the output, or writes it
// piece by piece to w as [ServeStream] does and returns nothing.
type RuntimeHandler func(ctx context.Context, payload []byte, w io.Writer) ([]byte, error)

// ServeRuntime is for programs that host other people's code: a runtime. The process waits until the node says
// which function it is to become, calls become once, and serves the calls with the handler that become
// returned. An error of become is the function's failed initialisation; an *[Error] carries type and stack to
// whoever deployed it. With Setup.Preparing, the process ends after become instead, and the handler is not used.
// ServeRuntime does not return.
func ServeRuntime(become func(ctx context.Context, s *Setup) (RuntimeHandler, error), opts ...Option) {
	var handler RuntimeHandler
	run := func(c *call) ([]byte, error) { return handler(c, c.payload, (*streamWriter)(c)) }
	serve(run, append(opts, func(o *options) {
		o.become = func(ctx context.Context, s *Setup) (RuntimeHandler, error) {
			var err error
			handler, err = become(ctx, s)
			return handler, err
		}
	}))
}

// AddUsage adds to what the node is told of a call what other processes used for it: processor time, and
// the greatest resident size of one of them in bytes. It is for runtimes; the process's own use is known.
func AddUsage(ctx context.Context, cpu time.Duration, peakMemory uint64) {
	if c := fromContext(ctx); c != nil {
		c.usedCPU += cpu
		c.usedPeak = max(c.usedPeak, peakMemory)
	}
}

// MaxOutput is how many bytes of output the node takes from the call of ctx in one piece, so that a runtime need not
// collect more than it can send; zero if the node does not say.
func MaxOutput(ctx context.Context) int64 {
	c := fromContext(ctx)
	if c == nil || c.runtime == nil {
		return 0
	}
	return c.runtime.maxOutput.Load()
}

// errDone ends a process that has nothing to serve: it only prepared, or nobody needed it.
var errDone = errors.New("done")

// setUp waits for SETUP and becomes what it says.
func (r *runtime) setUp(become func(context.Context, *Setup) (RuntimeHandler, error)) error {
	if r.session == nil {
		return errors.New("a runtime needs the data plane on descriptor 3")
	}
	r.read()
	var setup *Setup
	select {
	case setup = <-r.setup:
	case err := <-r.ended:
		// Nobody became of it: the node is gone, or needs this process no more.
		if err == nil || errors.Is(err, frame.ErrClosed) {
			return errDone
		}
		return err
	}
	r.started = time.Now()
	err := r.initOne(func(ctx context.Context) error {
		_, err := become(ctx, setup)
		return err
	})
	if err != nil {
		return r.initFailed(err)
	}
	if setup.Preparing {
		return errDone
	}
	return nil
}

// initFailed reports a failed initialisation to the node.
func (r *runtime) initFailed(err error) error {
	if r.session != nil {
		failure := failureOf(err)
		failure.Kind = frame.KindInit
		// If this does not arrive, the exit of the process says the same.
		_ = r.session.Send(frame.ErrorReply, nil, failure.AppendTo(nil))
		r.session.Flush()
	}
	return fmt.Errorf("initialise: %w", err)
}
