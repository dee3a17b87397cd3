//go:build linux && (amd64 || arm64)

package executor

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestConformance runs the suite on the real executor, with nothing left out.
func TestConformance(t *testing.T) {
	t.Parallel()
	binary(t, "conformance")
	box := newSandbox(t)
	// Grouped, so that the sandbox is closed after the parallel cases.
	t.Run("suite", func(t *testing.T) {
		plugintest.Run(t, plugintest.Target{Start: func(t *testing.T, o plugintest.Options) plugintest.Function {
			return startTarget(t, box, o)
		}})
	})
}

// TestHostedConformance runs it against a runtime: a process that waits, and becomes the
// function when it is called.
func TestHostedConformance(t *testing.T) {
	t.Parallel()
	binary(t, "conformance")
	path, err := examples.build("conformance")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	hosted := hostedRuntime{
		Runtime: hosts.Runtime{Name: "test", Program: file, Args: []string{"conformance", program.ArgRuntime}},
		code:    fstest.MapFS{"unused": {}},
	}
	hosted.run(t)
}

// hostedRuntime is a runtime under test, with the conformance program for it.
type hostedRuntime struct {
	hosts.Runtime
	code    fs.FS
	handler string
	env     map[string]string // beside that of a case
	stream  string            // variable that asks for streamed output; "" if none is needed
	memory  int64             // limit of an instance where a case has none; 0 for the usual
	lacks   []plugintest.Capability
}

// run runs the suite on one executor, each case with a version of its own.
func (h hostedRuntime) run(t *testing.T) {
	path := packFolder(t, h.code)
	var versions atomic.Uint64
	var callers sync.Map // plugins.HostHandler by version
	e := newReal(t, newSandbox(t), func(cfg *Config) {
		cfg.Node, cfg.Runtimes = "node-7", []hosts.Runtime{h.Runtime}
		cfg.Code = func(context.Context, string) (*os.File, error) { return os.Open(path) }
		cfg.Host = func(ctx context.Context, caller Key, call *plugins.HostCall) (*plugins.HostReply, error) {
			serve, ok := callers.Load(caller.Version)
			if !ok {
				return nil, fmt.Errorf("host call of %s", caller)
			}
			return serve.(plugins.HostHandler)(ctx, call)
		}
	})
	spec := func(version uint64, o plugintest.Options) *Spec {
		return realSpec("conformance", func(s *Spec) {
			s.Runtime, s.Handler, s.Version, s.Concurrency, s.IdleTTL = h.Name, h.handler, version, o.Concurrency, time.Minute
			s.Env = maps.Clone(o.Env)
			if s.Env == nil {
				s.Env = map[string]string{}
			}
			maps.Copy(s.Env, h.env)
			if h.stream != "" && o.Env[program.EnvStream] != "" {
				s.Env[h.stream] = "1"
			}
		}).sized(cmp.Or(o.Memory, h.memory))
	}
	// As a node does: code is prepared at a deploy, and processes wait.
	first := spec(versions.Add(1), plugintest.Options{})
	if err := e.Prepare(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	e.Reconcile([]Spec{*first})
	t.Run("suite", func(t *testing.T) {
		plugintest.Run(t, plugintest.Target{Lacks: h.lacks, Start: func(t *testing.T, o plugintest.Options) plugintest.Function {
			version := first.Version // which the case about the context wants to see
			if !strings.HasSuffix(t.Name(), "/context") {
				version = versions.Add(1)
			}
			f := &target{e: e, spec: spec(version, o)}
			if o.Host != nil {
				callers.Store(f.spec.Version, o.Host)
			}
			return f
		}})
	})
}

// packFolder returns the path of an archive of code.
func packFolder(t *testing.T, code fs.FS) string {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Pack(&b, code, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "code.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// target is one version in an executor of its own.
type target struct {
	e    *Executor
	spec *Spec
}

var _ plugintest.Function = (*target)(nil)

func startTarget(t *testing.T, box *sandbox.Sandbox, o plugintest.Options) *target {
	e := newReal(t, box, func(cfg *Config) {
		cfg.Node = "node-7"
		if o.Host != nil {
			cfg.Host = func(ctx context.Context, caller Key, call *plugins.HostCall) (*plugins.HostReply, error) {
				if caller.Function != "conformance" {
					return nil, fmt.Errorf("host call of %s", caller)
				}
				return o.Host(ctx, call)
			}
		}
	})
	return &target{e: e, spec: realSpec("conformance", func(s *Spec) {
		s.Env, s.Concurrency, s.IdleTTL = o.Env, o.Concurrency, time.Minute
	}).sized(o.Memory)}
}

// sized sets the memory limit, if there is one.
func (s *Spec) sized(memory int64) *Spec {
	s.Memory = 256 << 20
	if memory > 0 {
		s.Memory = memory
	}
	return s
}

// Invoke runs the call through the executor and hands its response on as a reply.
func (f *target) Invoke(ctx context.Context, call *plugins.Call) (*plugins.Reply, error) {
	resp, err := f.e.Invoke(ctx, f.spec, &Request{
		ID: call.RequestID, Attempt: call.Attempt, Body: call.Body, ContentType: call.ContentType,
		Trace: call.Trace, Depth: call.Depth, Attributes: call.Attributes,
	})
	if err != nil {
		return nil, err
	}
	reply := &plugins.Reply{Body: resp.Body, Stream: resp.Stream}
	if resp.Stream == nil {
		reply.Body = append([]byte(nil), resp.Body...)
		resp.Release()
	}
	reply.ContentType, reply.Attributes = resp.ContentType, resp.Attributes
	return reply, nil
}

// Logs returns the kept lines of one request.
func (f *target) Logs(id string) ([]plugins.LogLine, error) {
	var out []plugins.LogLine
	q := LogQuery{App: f.spec.App, Function: f.spec.Function, RequestID: id}
	for line, err := range f.e.Logs(context.Background(), q) {
		if err != nil {
			return nil, err
		}
		out = append(out, plugins.LogLine{
			Time: line.Time, Level: line.Level, Message: line.Message, RequestID: line.RequestID, Fields: line.Fields,
		})
	}
	return out, nil
}
