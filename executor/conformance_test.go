//go:build linux && (amd64 || arm64)

package executor

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
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
