package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// The variables of the function's environment that are for the runtime.
const (
	envMode        = "COVEY_EXEC_MODE"
	envInit        = "COVEY_EXEC_INIT"
	envStream      = "COVEY_EXEC_STREAM"
	envContentType = "COVEY_EXEC_CONTENT_TYPE"
	envHealth      = "COVEY_EXEC_HEALTH"
	envStart       = "COVEY_EXEC_START_MS"
	envPort        = "PORT"
	envAPI         = "COVEY_API"
)

const (
	modeStdio = "stdio"
	modeHTTP  = "http"
)

// host is the process as the host of one function's program.
type host struct {
	setup   *covey.Setup
	program *executable
	env     []string // of every process
	log     *stdio.Log
	api     *api
	running family
	server  *server // nil unless the program is one
}

// Main runs the runtime as a process that a node started. It does not return.
func Main() {
	adoptOrphans()
	h := &host{log: stdio.NewLog(os.Stderr), api: newAPI()}
	if err := h.api.listen(); err != nil {
		// Most functions have nothing to ask; those that do find no COVEY_API.
		fmt.Fprintln(os.Stderr, "covey: listen for host calls:", err)
	}
	covey.ServeRuntime(h.become, covey.OnShutdown(func() {
		if h.server != nil {
			h.server.shutDown()
		}
	}))
}

// become makes the process the function's host. There is nothing to prepare, but a handler that names nothing shows.
func (h *host) become(ctx context.Context, s *covey.Setup) (covey.RuntimeHandler, error) {
	var err error
	if h.program, err = find(s.Code, s.Handler); err != nil {
		return nil, err
	}
	h.setup = s
	h.env = stdio.Base(os.Environ(), s, envMode, envInit, envStream, envContentType, envHealth, envStart)
	mode := s.Env.Get(envMode)
	switch {
	case mode != "" && mode != modeStdio && mode != modeHTTP:
		return nil, covey.Errorf("BadSetting", "%s is %q; it can be %s and %s", envMode, mode, modeStdio, modeHTTP)
	case s.Preparing:
		return nil, nil
	case mode == modeHTTP:
		if h.server, err = h.startServer(ctx); err != nil {
			return nil, err
		}
		return h.server.handle, nil
	}
	if s.Env.Get(envInit) != "" {
		if err := h.initialise(ctx); err != nil {
			return nil, err
		}
	}
	return h.handle, nil
}

// initialise runs the program once without a call.
func (h *host) initialise(ctx context.Context) error {
	_, err := h.perform(ctx, &run{
		env: append(h.apiEnv(""), envInit+"=1"), stderr: h.log.Stderr(""), output: &collector{most: maxInitOutput},
	})
	return err
}

// maxInitOutput is far more than an initialisation has to say; nobody reads it.
const maxInitOutput = 1 << 20

// apiEnv returns a copy of the environment of every process, with the address for host calls of one call.
func (h *host) apiEnv(requestID string) []string {
	env := make([]string, len(h.env), len(h.env)+2)
	copy(env, h.env)
	if address := h.api.address(requestID); address != "" {
		env = append(env, envAPI+"="+address)
	}
	return env
}

// handle runs one call as a process.
func (h *host) handle(ctx context.Context, payload []byte, w io.Writer) ([]byte, error) {
	i := covey.FromContext(ctx)
	done := h.api.enter(ctx, i.RequestID)
	defer done()
	if t := h.setup.Env.Get(envContentType); t != "" {
		covey.SetContentType(ctx, t)
	}
	out := &collector{most: covey.MaxOutput(ctx)}
	r := &run{env: stdio.Environment(h.apiEnv(i.RequestID), i), input: payload, stderr: h.log.Stderr(i.RequestID), output: out}
	if h.setup.Env.Get(envStream) != "" {
		r.output = w
	}
	usage, err := h.perform(ctx, r)
	if usage != nil {
		covey.AddUsage(ctx, time.Duration(usage.Utime.Nano()+usage.Stime.Nano()), peakMemory(usage))
	}
	return out.b, err
}
