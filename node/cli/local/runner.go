package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/internal/forks"
	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/cli/source"
	"github.com/covey-dev/covey/node/client/wire"
)

// nodeName is what a function learns about where it runs.
const nodeName = "local"

// Config says what a Runner runs. All fields but Program are required.
type Config struct {
	App, Name string
	// Runtime is fixed for the life of a Runner.
	Runtime string
	// Program is the path of the covey binary, which hosts some runtimes itself.
	Program string
	// Warm keeps an instance ready, so that a start that fails shows before the
	// first call.
	Warm bool
	// Line gets what the function writes to its log, in order, from one
	// goroutine.
	Line func(executor.LogLine)
	// Logger gets what goes wrong beneath the function.
	Logger zerolog.Logger
}

// Runner runs versions of one function, one after another. Its methods are safe
// for concurrent use.
type Runner struct {
	cfg  Config
	dir  string
	box  *sandbox.Sandbox
	exec *executor.Executor
	// program is open as long as processes may be started from it. May be nil.
	program *os.File
	// Runtime describes what hosts the function, for people.
	Runtime string

	mu   sync.Mutex // guards what Use changes
	spec atomic.Pointer[executor.Spec]
	wire wire.FunctionSpec

	stop    context.CancelFunc
	stopped chan struct{} // closed when the executor's Run has returned
	lines   sync.WaitGroup
	printed int // lines given to Config.Line; the goroutine of lines owns it, then Close
	quiet   context.CancelFunc
}

// ErrNoRuntime says that this machine cannot host the function's runtime.
var ErrNoRuntime = errors.New("this machine cannot host it")

// Start prepares a directory and starts an executor in it. The Runner must be
// closed.
func Start(ctx context.Context, cfg Config) (_ *Runner, err error) {
	r := &Runner{cfg: cfg, stopped: make(chan struct{}), stop: func() {}, quiet: func() {}}
	if r.dir, err = os.MkdirTemp("", "covey-run-"); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	defer func() {
		if err != nil {
			close(r.stopped)
			err = errors.Join(err, r.Close())
		}
	}()
	box := sandbox.DefaultConfig()
	box.DataDir, box.Links, box.Logger = r.dir, hosts.Links(r.dir, hosts.Sources()), cfg.Logger
	if r.box, err = sandbox.New(box); err != nil {
		return nil, fmt.Errorf("prepare sandbox: %w", err)
	}
	runtimes, err := r.runtimes(ctx)
	if err != nil {
		return nil, err
	}
	e := executor.DefaultConfig()
	e.DataDir, e.Node, e.Sandbox, e.Code, e.Runtimes, e.Logger = r.dir, nodeName, r.box, r.open, runtimes, cfg.Logger
	if r.exec, err = executor.New(e); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.codeDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make code directory: %w", err)
	}
	return r, r.run(ctx)
}

// runtimes detects what the function needs, and nothing else: asking the
// interpreters takes a while.
func (r *Runner) runtimes(ctx context.Context) ([]hosts.Runtime, error) {
	if r.Runtime = r.cfg.Runtime; r.Runtime == manifest.Go {
		return nil, nil
	}
	detect := hosts.DetectConfig{DataDir: r.dir, Sandbox: r.box, Logger: r.cfg.Logger}
	for _, src := range hosts.Sources() {
		if src.Name == r.cfg.Runtime {
			detect.Sources = append(detect.Sources, src)
		}
	}
	if len(detect.Sources) == 0 {
		return nil, fmt.Errorf("runtime %s: %w: this release does not have it", r.cfg.Runtime, ErrNoRuntime)
	}
	if r.cfg.Program != "" {
		var err error
		if r.program, err = os.Open(r.cfg.Program); err != nil {
			return nil, fmt.Errorf("open program of runtimes: %w", err)
		}
		detect.Program = r.program
	}
	found, err := hosts.Detect(ctx, detect)
	if err != nil {
		return nil, fmt.Errorf("detect runtimes: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("runtime %s: %w: is its interpreter installed?", r.cfg.Runtime, ErrNoRuntime)
	}
	if found[0].Version != "" {
		r.Runtime += " (" + found[0].Version + ")"
	}
	return found, nil
}

// run starts the executor's loop and waits until it takes calls.
func (r *Runner) run(ctx context.Context) error {
	running, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { // ends with Close
		defer close(r.stopped)
		if err := r.exec.Run(running); err != nil {
			r.cfg.Logger.Error().Err(err).Msg("run executor")
		}
	}()
	reading, quiet := context.WithCancel(context.Background())
	r.quiet = quiet
	r.lines.Go(func() { r.follow(reading) })
	// A spec that is none tells by its refusal whether the executor runs: nothing
	// else of it says so.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := r.exec.Invoke(ctx, new(executor.Spec), new(executor.Request)); !errors.Is(err, executor.ErrClosed) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (r *Runner) codeDir() string { return filepath.Join(r.dir, "code") }

// open is the executor's source of code.
func (r *Runner) open(_ context.Context, digest string) (*os.File, error) {
	return os.Open(filepath.Join(r.codeDir(), digest))
}

// Use makes code and configuration the function's next version, to which all
// further calls go; calls in the one before end in it. It reports whether
// anything is new.
func (r *Runner) Use(ctx context.Context, code *source.Code, spec wire.FunctionSpec) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if code.Runtime != r.cfg.Runtime {
		return false, fmt.Errorf("the runtime is %s now and was %s: start anew", code.Runtime, r.cfg.Runtime)
	}
	artifact, err := fitting(code.Artifacts)
	if err != nil {
		return false, err
	}
	digest, err := r.keep(artifact.Path)
	if err != nil {
		return false, err
	}
	old := r.spec.Load()
	next := r.version(code, spec, digest)
	if old != nil && old.Digest == digest && old.Handler == next.Handler && reflect.DeepEqual(spec, r.wire) {
		return false, nil
	}
	next.Version = 1
	if old != nil {
		next.Version = old.Version + 1
	}
	if err := r.exec.Prepare(ctx, next); err != nil {
		return false, fmt.Errorf("prepare code: %w", err)
	}
	r.spec.Store(next)
	r.wire = spec
	r.exec.Reconcile([]executor.Spec{*next})
	if old != nil && old.Digest != digest {
		_ = os.Remove(filepath.Join(r.codeDir(), old.Digest)) // the directory goes in the end
	}
	return true, nil
}

// fitting returns the artifact for this machine.
func fitting(artifacts []source.Artifact) (source.Artifact, error) {
	for _, a := range artifacts {
		if (a.OS == "" || a.OS == goruntime.GOOS) && (a.Arch == "" || a.Arch == goruntime.GOARCH) {
			return a, nil
		}
	}
	return source.Artifact{}, fmt.Errorf("the code is for %s/%s, and this machine is %s/%s",
		artifacts[0].OS, artifacts[0].Arch, goruntime.GOOS, goruntime.GOARCH)
}

// keep copies an artifact to where open finds it, under its digest.
func (r *Runner) keep(path string) (digest string, err error) {
	in, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("keep code: %w", err)
	}
	defer in.Close() // read only: nothing can be lost
	out, err := os.CreateTemp(r.codeDir(), "new-")
	if err != nil {
		return "", fmt.Errorf("keep code: %w", err)
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	// Executed by descriptor, by another user.
	err = errors.Join(err, out.Chmod(0o555), out.Close())
	digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	forks.Settle(out.Name())
	if err == nil {
		err = os.Rename(out.Name(), filepath.Join(r.codeDir(), digest))
	}
	if err != nil {
		return "", fmt.Errorf("keep code: %w", err)
	}
	return digest, nil
}

// version is the specification as the executor takes it, with the cluster's
// defaults.
func (r *Runner) version(code *source.Code, spec wire.FunctionSpec, digest string) *executor.Spec {
	ms := func(n uint64, fallback time.Duration) time.Duration {
		if n == 0 {
			return fallback
		}
		return time.Duration(n) * time.Millisecond
	}
	s := &executor.Spec{
		Key:     executor.Key{App: r.cfg.App, Function: r.cfg.Name},
		Runtime: code.Runtime, Handler: code.Handler, Digest: digest,
		Memory: int64(spec.MemoryBytes), Timeout: ms(spec.TimeoutMS, state.DefaultTimeout),
		StartTimeout: ms(spec.StartTimeoutMS, state.DefaultStartTimeout), IdleTTL: ms(spec.IdleTTLMS, state.DefaultIdleTTL),
		Concurrency: int(spec.Concurrency), Queue: state.DefaultQueue, Max: int(spec.Max), Min: int(spec.Min),
		Env: spec.Env, MinLevel: sandbox.Level(spec.MinSandbox),
	}
	if s.Memory == 0 {
		s.Memory = state.DefaultMemory
	}
	if spec.Queue != nil {
		s.Queue = int(*spec.Queue)
	}
	if r.cfg.Warm {
		s.Min = max(s.Min, 1)
	}
	return s
}

// Invoke runs one call in the newest version. The answer must be released.
func (r *Runner) Invoke(ctx context.Context, req *executor.Request) (*executor.Response, error) {
	return r.exec.Invoke(ctx, r.spec.Load(), req)
}

// Version counts what Use took, from 1.
func (r *Runner) Version() uint64 { return r.spec.Load().Version }

// follow passes log lines on as they come.
func (r *Runner) follow(ctx context.Context) {
	for line, err := range r.exec.Logs(ctx, executor.LogQuery{App: r.cfg.App, Function: r.cfg.Name, Follow: true}) {
		if err != nil {
			r.cfg.Logger.Error().Err(err).Msg("follow log")
			return
		}
		r.cfg.Line(line)
		r.printed++
	}
}

// rest passes on the lines that follow has not come to.
func (r *Runner) rest() {
	skip := r.printed
	for line, err := range r.exec.Logs(context.Background(), executor.LogQuery{App: r.cfg.App, Function: r.cfg.Name}) {
		if err != nil {
			return
		}
		if skip--; skip < 0 {
			r.cfg.Line(line)
		}
	}
}

// drainTimeout bounds how long Close waits for calls.
const drainTimeout = 5 * time.Second

// Close waits a moment for the calls in flight, ends everything, passes on the
// last of the log and deletes the directory.
func (r *Runner) Close() error {
	var errs []error
	if r.exec != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		errs = append(errs, r.exec.Drain(ctx))
		cancel()
		r.quiet()
		r.lines.Wait()
		r.rest()
	}
	r.stop()
	<-r.stopped
	if r.box != nil {
		errs = append(errs, r.box.Close())
	}
	if r.program != nil {
		errs = append(errs, r.program.Close())
	}
	return errors.Join(append(errs, archive.Remove(r.dir))...)
}
