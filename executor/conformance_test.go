//go:build linux && (amd64 || arm64)

package executor

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
			return startTarget(t, box, o, nil)
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
	lacks   []plugintest.Capability
}

func (h hostedRuntime) run(t *testing.T) {
	var b bytes.Buffer
	if err := archive.Pack(&b, h.code, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "code.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	box := newSandbox(t)
	t.Run("suite", func(t *testing.T) {
		plugintest.Run(t, plugintest.Target{Lacks: h.lacks, Start: func(t *testing.T, o plugintest.Options) plugintest.Function {
			f := startTarget(t, box, o, func(cfg *Config) {
				cfg.Runtimes = []hosts.Runtime{h.Runtime}
				cfg.Code = func(context.Context, string) (*os.File, error) { return os.Open(path) }
			})
			f.spec.Runtime, f.spec.Handler = h.Name, h.handler
			f.e.Reconcile([]Spec{*f.spec}) // as a node does, so that processes wait
			return f
		}})
	})
}

// target is one version in an executor of its own.
type target struct {
	e    *Executor
	spec *Spec
}

var _ plugintest.Function = (*target)(nil)

func startTarget(t *testing.T, box *sandbox.Sandbox, o plugintest.Options, change func(*Config)) *target {
	e := newReal(t, box, func(cfg *Config) {
		cfg.Node = "node-7"
		if change != nil {
			change(cfg)
		}
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
