package wasm

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"github.com/tetratelabs/wazero"
)

// The variables of the function's environment that are for the runtime.
const (
	envInit        = "COVEY_WASM_INIT"
	envStream      = "COVEY_WASM_STREAM"
	envContentType = "COVEY_WASM_CONTENT_TYPE"
)

// host is the process as the host of one function's module.
type host struct {
	engine *engine
	log    *stdio.Log
	setup  *covey.Setup
	module *module
	config wazero.ModuleConfig // what all calls have in common but for the environment
	env    []string            // of all calls
	memory *budget
}

// Main runs the runtime as a process that a node started. It does not return.
func Main() {
	ctx := context.Background()
	// The heap is small beside what compiling and calls pass through it; collecting it seldom costs little memory.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(hostMemory)
	e, err := newEngine(ctx, os.TempDir())
	if err != nil {
		fmt.Fprintln(os.Stderr, "covey: start the engine:", err)
		os.Exit(1)
	}
	h := &host{engine: e, log: stdio.NewLog(os.Stderr)}
	if err := h.warmUp(ctx); err != nil {
		// Slower first calls are no reason not to serve.
		fmt.Fprintln(os.Stderr, "covey: warm up:", err)
	}
	covey.ServeRuntime(h.become)
}

// become makes the process the function's host, or only compiles the module into the cache.
func (h *host) become(ctx context.Context, s *covey.Setup) (covey.RuntimeHandler, error) {
	path, args, err := find(s.Code, s.Handler)
	if err != nil {
		return nil, err
	}
	if err := h.engine.useCache(s.Cache, s.Preparing); err != nil {
		return nil, fmt.Errorf("use the cache %s: %w", s.Cache, err)
	}
	if h.module, err = h.engine.load(ctx, path, s.Cache, s.Preparing); err != nil {
		return nil, err
	}
	if s.Preparing {
		return nil, h.engine.publishCache(s.Cache)
	}
	own := ownMemory(s.Concurrency)
	debug.SetMemoryLimit(int64(own))
	h.setup, h.memory = s, newBudget(s.Memory, own)
	h.config = withFiles(baseConfig(args), s.Code)
	h.env = stdio.Base(nil, s, envInit, envStream, envContentType)
	if s.Env.Get(envInit) != "" {
		return h.handle, h.initialise(ctx)
	}
	return h.handle, nil
}

// baseConfig is what every instance of every module has. It has no name: that is what modules are told apart by, and
// copies of one must have none.
func baseConfig(args []string) wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions().WithArgs(args...).
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader)
}

// withFiles shows a module the code and a private folder.
func withFiles(config wazero.ModuleConfig, code string) wazero.ModuleConfig {
	files := wazero.NewFSConfig().WithReadOnlyDirMount(code, "/").WithDirMount(os.TempDir(), "/tmp")
	return config.WithFSConfig(files)
}

// withEnv adds an environment to a config that has none. Configs made from one that has some share its memory, and calls
// at the same time would see each other's variables.
func withEnv(config wazero.ModuleConfig, env []string) wazero.ModuleConfig {
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		config = config.WithEnv(name, value)
	}
	return config
}

// initialise runs the module once without a call.
func (h *host) initialise(ctx context.Context) error {
	c := &call{host: h, ctx: ctx, env: append(slices.Clone(h.env), envInit+"=1"), stderr: h.log.Stderr(""), most: maxInitOutput}
	return c.run()
}

// maxInitOutput is far more than an initialisation has to say; nobody reads it.
const maxInitOutput = 1 << 20

// handle runs one call in a fresh instance.
func (h *host) handle(ctx context.Context, payload []byte, w io.Writer) ([]byte, error) {
	i := covey.FromContext(ctx)
	if t := h.setup.Env.Get(envContentType); t != "" {
		covey.SetContentType(ctx, t)
	}
	c := &call{
		host: h, ctx: ctx, env: stdio.Environment(h.env, i), input: payload, requestID: i.RequestID,
		stderr: h.log.Stderr(i.RequestID), most: covey.MaxOutput(ctx),
	}
	if h.setup.Env.Get(envStream) != "" {
		c.stream = w
	}
	err := c.run()
	return c.output, err
}
