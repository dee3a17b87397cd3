package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"
)

// grace is what a module that asks whether it was cancelled has to come to an end.
const grace = 100 * time.Millisecond

// call is one run of the module.
type call struct {
	host      *host
	ctx       context.Context
	requestID string
	env       []string
	input     []byte
	stderr    *stdio.Stderr
	most      int64     // of output in bytes, zero for no limit
	stream    io.Writer // takes the output instead, if set

	output  []byte
	guest   context.Context // ends the module
	abort   context.CancelCauseFunc
	failure *covey.Error // what the module said to fail with
	answer  []byte       // of the last host call
}

// callKey finds the call in the context that the functions of the host get.
type callKey struct{}

// run instantiates the module, runs it to its end, and gives everything back that it had.
func (c *call) run() error {
	m := c.host.module
	c.guest, c.abort = context.WithCancelCause(context.WithoutCancel(c.ctx))
	defer c.abort(nil)
	stop := context.AfterFunc(c.ctx, func() {
		if m.polite && errors.Is(c.ctx.Err(), context.Canceled) {
			// Nothing waits for this timer, and a call that has ended does not mind.
			time.AfterFunc(grace, func() { c.abort(c.ctx.Err()) })
			return
		}
		c.abort(c.ctx.Err())
	})
	defer stop()
	memory := &allocator{budget: c.host.memory}
	defer memory.release()
	ctx := experimental.WithMemoryAllocator(context.WithValue(c.guest, callKey{}, c), memory)
	return c.outcome(c.start(ctx))
}

// start runs the module and returns what wazero says of it.
func (c *call) start(ctx context.Context) (err error) {
	defer func() {
		// wazero does not check whether it gets the memory that a module begins with.
		if v := recover(); v != nil {
			err = covey.Errorf("OutOfMemory", "start the module: %v", v)
		}
	}()
	config := withEnv(c.host.config, c.env).
		WithStdin(bytes.NewReader(c.input)).WithStdout((*stdout)(c)).WithStderr(c.stderr).WithNanosleep(c.sleep)
	instance, err := c.host.engine.runtime.InstantiateModule(ctx, c.host.module.compiled, config)
	if err != nil {
		return err
	}
	defer instance.Close(ctx)
	_, err = instance.ExportedFunction(entry).Call(ctx)
	return err
}

// outcome is the error of a call whose module has ended with err.
func (c *call) outcome(err error) error {
	var exit *sys.ExitError
	var typed *covey.Error
	cause := context.Cause(c.guest)
	switch {
	case err != nil && cause != nil && c.ctx.Err() != nil:
		c.stderr.Flush()
		return stdio.Expired(c.ctx)
	case err != nil && cause != nil:
		c.stderr.Flush()
		return cause
	case c.failure != nil:
		c.stderr.Flush()
		return c.failure
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == 0:
		c.stderr.Flush()
		return nil
	case errors.As(err, &typed):
		c.stderr.Flush()
		return typed
	case exit != nil:
		return c.stderr.Failure("ExitCode", fmt.Sprintf("exit status %d", exit.ExitCode()))
	}
	message, stack, _ := strings.Cut(err.Error(), "\n")
	failure := c.stderr.Failure("Trap", message)
	if failure.Unhandled {
		failure.Stack = strings.TrimSpace(stack + "\n\n" + failure.Stack)
	}
	return failure
}

// check ends the module if its call has ended.
func (c *call) check() {
	if c.guest.Err() != nil {
		// wazero passes this on as the end of the module.
		panic(sys.NewExitError(sys.ExitCodeContextCanceled))
	}
}

// sleep waits as long as the module wants to, unless its call ends.
func (c *call) sleep(ns int64) {
	timer := time.NewTimer(time.Duration(ns))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.guest.Done():
		c.check()
	}
}

// stdout is where the module's output goes.
type stdout call

// Write ends a module that writes more than anybody takes.
func (w *stdout) Write(p []byte) (int, error) {
	c := (*call)(w)
	if c.stream != nil {
		n, err := c.stream.Write(p)
		if err != nil {
			c.abort(fmt.Errorf("pass the output on: %w", err))
		}
		return n, err
	}
	if c.most > 0 && int64(len(c.output)+len(p)) > c.most {
		err := covey.Errorf("ResponseTooLarge", "the output has more than %d bytes; set %s=1 to stream it", c.most, envStream)
		c.abort(err)
		return 0, err
	}
	c.output = append(c.output, p...)
	return len(p), nil
}
