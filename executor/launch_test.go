//go:build linux && (amd64 || arm64)

package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

func TestEnvironmentSaysWhoTheFunctionIs(t *testing.T) {
	t.Parallel()
	spec := testSpec(func(s *Spec) {
		s.Memory = 100 << 20
		s.Env = map[string]string{"COLOR": "red", "COVEY_APP": "forged", "PATH": "/opt/bin"}
	})
	env := environment(spec)
	for _, want := range []string{
		"COLOR=red", "COVEY_APP=default", "COVEY_FUNCTION=hello", "COVEY_VERSION=1", "PATH=/opt/bin",
		"COVEY_FUNCTION_MEMORY_BYTES=104857600", "GOMEMLIMIT=94371840", "COVEY_PLUGIN=1",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%q is not in %q", want, env)
		}
	}
	seen := map[string]bool{}
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if seen[name] {
			t.Errorf("%s is set twice", name)
		}
		seen[name] = true
	}
}

func TestRealStartsThatFailSayWhy(t *testing.T) {
	t.Parallel()
	box := newSandbox(t)
	binary(t, "conformance")
	cases := []struct {
		name   string
		code   func(context.Context, string) (*os.File, error)
		change func(*Spec)
		cause  error
		reason string
	}{
		{"no code", func(context.Context, string) (*os.File, error) { return nil, errInjected }, nil, errInjected, "open code"},
		{"not a program", func(context.Context, string) (*os.File, error) { return os.Open("launch_test.go") }, nil, nil, "launch"},
		{"unknown runtime", nil, func(s *Spec) { s.Runtime = "cobol" }, hosts.ErrRuntime, "cobol"},
		{"higher level", nil, func(s *Spec) { s.MinLevel = sandbox.LevelLimited + 1 }, sandbox.ErrLevel, "level"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := newReal(t, box, func(cfg *Config) {
				if c.code != nil {
					cfg.Code = c.code
				}
			})
			spec := realSpec("conformance")
			if c.change != nil {
				c.change(spec)
			}
			_, err := e.Invoke(t.Context(), spec, request("r"))
			failed, ok := errors.AsType[*StartError](err)
			if !ok || !errors.Is(err, plugins.ErrNotStarted) || !strings.Contains(failed.Reason, c.reason) {
				t.Fatalf("got %v", err)
			}
			if c.cause != nil && !errors.Is(err, c.cause) {
				t.Errorf("%v does not wrap %v", err, c.cause)
			}
			if n := len(e.Instances()); n != 0 {
				t.Errorf("%d instances are left", n)
			}
		})
	}
}

// What a function printed is readable when its instance is gone, by request.
func TestLogsOutliveTheirRealInstance(t *testing.T) {
	t.Parallel()
	e := newReal(t, newSandbox(t), nil)
	binary(t, "conformance")
	spec := realSpec("conformance", func(s *Spec) { s.IdleTTL = 300 * time.Millisecond })
	for i := range 3 {
		id := fmt.Sprint("call-", i)
		resp, err := e.Invoke(t.Context(), spec, operation(t, id, program.Input{Op: program.OpLog, Data: "egg of " + id}))
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
		// At once: nothing has to settle before the log is complete.
		if got := logged(t, e, spec.Key, id); !slices.Contains(got, "egg of "+id) {
			t.Errorf("right after %s its log is %q", id, got)
		}
	}
	eventually(t, func() error {
		if n := len(e.Instances()); n != 0 {
			return fmt.Errorf("%d instances are left", n)
		}
		return nil
	})
	if got := logged(t, e, spec.Key, "call-1"); !slices.Equal(got, []string{"egg of call-1"}) {
		t.Errorf("the log of call-1 is %q", got)
	}
}

func logged(t *testing.T, e *Executor, key Key, id string) (out []string) {
	t.Helper()
	for line, err := range e.Logs(t.Context(), LogQuery{App: key.App, Function: key.Function, RequestID: id}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, line.Message)
	}
	return out
}

func TestRealCallsAreMetered(t *testing.T) {
	t.Parallel()
	metered := make(chan Usage, 1)
	e := newReal(t, newSandbox(t), func(cfg *Config) { cfg.Meter = func(u Usage) { metered <- u } })
	binary(t, "conformance")
	spec := realSpec("conformance").sized(0)
	req := operation(t, "r", program.Input{Op: program.OpAllocate, N: 32 << 20})
	resp, err := e.Invoke(t.Context(), spec, req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Release()
	u := <-metered
	if u != resp.Usage {
		t.Errorf("metered %+v, response says %+v", u, resp.Usage)
	}
	switch {
	case u.Key != spec.Key, u.RequestID != "r", u.Failed, !u.Cold, u.MemoryLimit != spec.Memory:
		t.Errorf("metered %+v", u)
	case u.Init <= 0, u.Billed <= 0, u.Billed%time.Millisecond != 0, u.CPU <= 0:
		t.Errorf("times are %+v", u)
	case u.MemoryPeak < 32<<20, u.BytesIn != int64(len(req.Body)), u.BytesOut != int64(len(resp.Body)):
		t.Errorf("bytes are %+v", u)
	}
}

func TestDrainLeavesNoRealProcess(t *testing.T) {
	t.Parallel()
	e := newReal(t, newSandbox(t), nil)
	binary(t, "echo")
	var pids []int
	for v := range uint64(3) {
		spec := realSpec("echo")
		spec.Version = v + 1
		resp, err := e.Invoke(t.Context(), spec, request("r"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Release()
	}
	for _, in := range e.Instances() {
		pids = append(pids, in.Pid)
	}
	if err := e.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("process %d is left: %v", pid, err)
		}
	}
	if len(pids) != 3 {
		t.Errorf("%d processes before, want 3", len(pids))
	}
}
