package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// runtimeGo hosts binaries built with the Go SDK, or any other program that
// speaks the frames on descriptor 3.
const runtimeGo = "go"

// errRuntime refuses a runtime that this release does not know.
var errRuntime = errors.New("runtime is not supported by this node")

// processLauncher starts instances as sandboxed processes with a data plane on
// descriptor 3.
type processLauncher struct {
	sandbox *sandbox.Sandbox
	code    func(ctx context.Context, digest string) (*os.File, error)
	host    func(ctx context.Context, caller Key, call *plugins.HostCall) (*plugins.HostReply, error)
	maxBody int
	dir     string // for go-plugin's own files
	health  health
	log     zerolog.Logger
	buffers frame.Pool
}

var (
	_ launcher = (*processLauncher)(nil)
	_ process  = (*sandbox.Process)(nil)
	_ plane    = (*plugins.Conn)(nil)
)

// launch is one straight line: what each step opens is closed by the steps after
// it, or by the deferred cleanup when one of them fails.
func (l *processLauncher) launch(ctx context.Context, in *instance) (_ *launched, err error) {
	if in.spec.Runtime != runtimeGo {
		return nil, fmt.Errorf("%w: %q", errRuntime, in.spec.Runtime)
	}
	code, err := l.code(ctx, in.spec.Digest)
	if err != nil {
		return nil, fmt.Errorf("open code: %w", err)
	}
	defer code.Close() // read only: nothing can be lost
	ours, theirs, err := plugins.Pair()
	if err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	defer theirs.Close() // the process has its own copy
	att := newAttachment(l, in)
	stdout, err := in.log.open(StreamStdout, att.handshake)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	defer stdout.Close()
	stderr, err := in.log.open(StreamStderr, nil)
	if err != nil {
		return nil, errors.Join(err, ours.Close(), in.log.abort())
	}
	defer stderr.Close()
	p, err := l.sandbox.Start(ctx, sandbox.Spec{
		Instance: in.id,
		Code:     code,
		Args:     []string{in.spec.Function},
		Env:      environment(in.spec),
		Files:    []*os.File{theirs},
		Stdout:   stdout,
		Stderr:   stderr,
		Memory:   in.spec.Memory,
		MinLevel: in.spec.MinLevel,
	})
	if err != nil {
		return nil, errors.Join(err, ours.Close(), in.log.abort())
	}
	config := plugins.ConnConfig{Logger: l.log, MaxBody: l.maxBody, Pool: &l.buffers}
	if l.host != nil {
		key := in.spec.Key
		config.Host = func(ctx context.Context, call *plugins.HostCall) (*plugins.HostReply, error) {
			return l.host(ctx, key, call)
		}
	}
	var readers sync.WaitGroup
	for _, o := range in.log.outputs {
		readers.Go(o.run)
	}
	return &launched{
		process: p,
		plane:   plugins.NewConn(ours, config),
		ready:   att.runner(p),
		close:   func() { in.log.close(&readers) },
	}, nil
}

// limitsMemory tells whether the sandbox does.
func (l *processLauncher) limitsMemory() bool {
	return l.sandbox.Level() >= sandbox.LevelLimited
}

// environment is what a function finds in its environment: its own variables,
// who it is, and what go-plugin's handshake wants. Ours win.
func environment(spec *Spec) []string {
	cookie := plugins.Handshake()
	ours := map[string]string{
		cookie.MagicCookieKey:         cookie.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS":    strconv.FormatUint(uint64(cookie.ProtocolVersion), 10),
		"COVEY_APP":                   spec.App,
		"COVEY_FUNCTION":              spec.Function,
		"COVEY_VERSION":               strconv.FormatUint(spec.Version, 10),
		"COVEY_FUNCTION_MEMORY_BYTES": strconv.FormatInt(spec.Memory, 10),
	}
	defaults := map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin",
		// A Go program then collects garbage harder instead of being ended.
		"GOMEMLIMIT": strconv.FormatInt(spec.Memory/10*9, 10),
	}
	env := make([]string, 0, len(ours)+len(defaults)+len(spec.Env))
	for name, value := range ours {
		env = append(env, name+"="+value)
	}
	for name, value := range spec.Env {
		if _, taken := ours[name]; !taken {
			env = append(env, name+"="+value)
		}
	}
	for name, value := range defaults {
		if _, taken := spec.Env[name]; !taken {
			env = append(env, name+"="+value)
		}
	}
	return env
}
