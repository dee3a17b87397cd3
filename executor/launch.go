package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// runtimeGo hosts binaries built with the Go SDK, or any other program that
// speaks the frames on descriptor 3. All other runtimes are package hosts'.
const runtimeGo = "go"

// processLauncher starts instances as sandboxed processes with a data plane on
// descriptor 3.
type processLauncher struct {
	sandbox *sandbox.Sandbox
	code    func(ctx context.Context, digest string) (*os.File, error)
	hosts   *hosts.Pool
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

// spawned is an instance's process and what belongs to it.
type spawned struct {
	process *sandbox.Process
	conn    *net.UnixConn
	setup   *plugins.Setup // what the process has to be told first; nil for none
	release func()         // gives back what the process used; nil for nothing

	fetch, spawn time.Duration // how long it took to have the code, and the process
}

// launch brings up a process that becomes the instance. Its output goes to the
// instance's log from here on.
func (l *processLauncher) launch(ctx context.Context, in *instance) (*launched, error) {
	att := newAttachment(l, in)
	start := l.become
	if in.spec.Runtime == runtimeGo {
		start = l.execute
	}
	sp, err := start(ctx, in, att)
	if err != nil {
		return nil, errors.Join(err, in.log.abort())
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
	conn := plugins.NewConn(sp.conn, config)
	if sp.setup != nil {
		_ = conn.Setup(sp.setup) // a process that cannot be told never gets ready, and says why
	}
	return &launched{
		process: sp.process,
		plane:   conn,
		ready:   att.runner(sp.process),
		fetch:   sp.fetch,
		spawn:   sp.spawn,
		close: func() {
			in.log.close(&readers)
			if sp.release != nil {
				sp.release()
			}
		},
	}, nil
}

// execute starts the function's own program. It is one straight line: what each
// step opens is closed by the steps after it, or when one of them fails.
func (l *processLauncher) execute(ctx context.Context, in *instance, att *attachment) (*spawned, error) {
	begun := time.Now()
	code, err := l.code(ctx, in.spec.Digest)
	if err != nil {
		return nil, fmt.Errorf("open code: %w", err)
	}
	defer code.Close() // read only: nothing can be lost
	fetched := time.Now()
	ours, theirs, err := plugins.Pair()
	if err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	defer theirs.Close() // the process has its own copy
	stdout, err := in.log.open(StreamStdout, att.handshake)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	defer stdout.Close()
	stderr, err := in.log.open(StreamStderr, nil)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
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
		return nil, errors.Join(err, ours.Close())
	}
	return &spawned{process: p, conn: ours, fetch: fetched.Sub(begun), spawn: time.Since(fetched)}, nil
}

// become takes a process of the version's runtime and says whom it is to become.
func (l *processLauncher) become(ctx context.Context, in *instance, att *attachment) (*spawned, error) {
	spec := in.spec
	if level := l.sandbox.Level(); level < spec.MinLevel {
		return nil, fmt.Errorf("%w: %v is demanded, this node has %v", sandbox.ErrLevel, spec.MinLevel, level)
	}
	h, err := l.hosts.Take(ctx, spec.Runtime, spec.Digest, spec.Handler, spec.Memory)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(in.log.adopt(StreamStdout, h.Stdout, att.handshake), in.log.adopt(StreamStderr, h.Stderr, nil)); err != nil {
		h.Process.Kill()
		h.Release()
		return nil, errors.Join(err, h.Conn.Close())
	}
	setup := &plugins.Setup{
		App: spec.App, Function: spec.Function, Version: spec.Version, Handler: spec.Handler, Code: h.Code, Cache: h.Cache,
		Memory: uint64(spec.Memory), Timeout: spec.Timeout, Concurrency: uint32(spec.concurrency()),
	}
	for _, pair := range functionEnvironment(spec) {
		name, value, _ := strings.Cut(pair, "=")
		setup.Env = append(setup.Env, frame.Attribute{Name: name, Value: value})
	}
	return &spawned{process: h.Process, conn: h.Conn, setup: setup, release: h.Release, fetch: h.Fetched, spawn: h.Spawned}, nil
}

// limitsMemory tells whether the sandbox does.
func (l *processLauncher) limitsMemory() bool {
	return l.sandbox.Level() >= sandbox.LevelLimited
}

// environment is what a program built with an SDK finds in its environment: what
// every function finds, and what go-plugin's handshake wants.
func environment(spec *Spec) []string {
	cookie := plugins.Handshake()
	return append(functionEnvironment(spec),
		cookie.MagicCookieKey+"="+cookie.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS="+strconv.FormatUint(uint64(cookie.ProtocolVersion), 10),
	)
}

// functionEnvironment is what a function finds in its environment: who it is, its own
// variables, and defaults. Ours win over its own, its own over the defaults.
func functionEnvironment(spec *Spec) []string {
	cookie := plugins.Handshake()
	ours := map[string]string{
		"COVEY_APP":                   spec.App,
		"COVEY_FUNCTION":              spec.Function,
		"COVEY_VERSION":               strconv.FormatUint(spec.Version, 10),
		"COVEY_FUNCTION_MEMORY_BYTES": strconv.FormatInt(spec.Memory, 10),
	}
	defaults := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin"}
	if spec.Runtime == runtimeGo {
		// The program then collects garbage harder instead of being ended.
		defaults["GOMEMLIMIT"] = strconv.FormatInt(spec.Memory/10*9, 10)
	}
	env := make([]string, 0, len(ours)+len(defaults)+len(spec.Env)+2)
	for name, value := range ours {
		env = append(env, name+"="+value)
	}
	for name, value := range spec.Env {
		if _, taken := ours[name]; !taken && name != cookie.MagicCookieKey && name != "PLUGIN_PROTOCOL_VERSIONS" {
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
