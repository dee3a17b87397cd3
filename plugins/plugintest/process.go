package plugintest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// Process is a program under test that is started as a plain process: without a sandbox and limits, which
// is enough to develop an SDK or a runtime.
type Process struct {
	// Command is the program and its arguments.
	Command []string
	// Env is the process's environment beside the handshake; nothing is inherited.
	Env []string
	// Setup, if set, is sent to the process, which is one of a runtime then. The suite fills in everything but
	// Handler, Code and Cache; Options.Env goes there instead of into the process's environment.
	Setup *plugins.Setup
}

// ProcessTarget returns a target that runs p.
func ProcessTarget(p Process) Target {
	return Target{
		Start: func(t *testing.T, o Options) Function {
			f := &processFunction{process: p, options: o, logs: make(map[string][]plugins.LogLine)}
			t.Cleanup(f.stop)
			return f
		},
		Lacks: []Capability{EnforcesMemory},
	}
}

// processFunction runs one process at a time.
type processFunction struct {
	process Process
	options Options

	mu   sync.Mutex
	cmd  *exec.Cmd
	conn *plugins.Conn
	wg   sync.WaitGroup
	logs map[string][]plugins.LogLine
}

var _ Function = (*processFunction)(nil)

// Invoke runs one call and ends the process if its deadline passes.
func (f *processFunction) Invoke(ctx context.Context, call *plugins.Call) (*plugins.Reply, error) {
	conn, cmd, err := f.instance()
	if err != nil {
		return nil, err
	}
	reply, err := conn.Invoke(ctx, call)
	if errors.Is(err, context.DeadlineExceeded) {
		_ = cmd.Process.Kill()
		<-conn.Done()
	}
	return reply, err
}

// instance returns the running process, or starts one.
func (f *processFunction) instance() (*plugins.Conn, *exec.Cmd, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		select {
		case <-f.conn.Done():
			_ = f.conn.Close()
		default:
			return f.conn, f.cmd, nil
		}
	}
	local, remote, err := plugins.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer remote.Close()
	cmd := exec.Command(f.process.Command[0], f.process.Command[1:]...)
	cmd.ExtraFiles = []*os.File{remote}
	handshake := plugins.Handshake()
	cmd.Env = append([]string{handshake.MagicCookieKey + "=" + handshake.MagicCookieValue}, f.process.Env...)
	if f.process.Setup == nil {
		for k, v := range f.options.Env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start: %w", err)
	}
	f.wg.Go(func() {
		f.collect(bufio.NewScanner(stderr))
		_ = cmd.Wait()
	})
	f.cmd, f.conn = cmd, plugins.NewConn(local, plugins.ConnConfig{Host: f.options.Host})
	if f.process.Setup != nil {
		if err := f.conn.Setup(f.setup()); err != nil {
			return nil, nil, err
		}
	}
	return f.conn, f.cmd, nil
}

// setup is the process's SETUP with the case's options in it.
func (f *processFunction) setup() *plugins.Setup {
	s := *f.process.Setup
	s.App, s.Function, s.Version = "default", "conformance", 1
	s.Timeout, s.Concurrency, s.Memory = patience, uint32(max(f.options.Concurrency, 1)), uint64(f.options.Memory)
	s.Env = slices.Clone(s.Env)
	for k, v := range f.options.Env {
		s.Env = append(s.Env, frame.Attribute{Name: k, Value: v})
	}
	return &s
}

func (f *processFunction) collect(s *bufio.Scanner) {
	for s.Scan() {
		l := plugins.ParseLogLine(s.Bytes(), time.Now())
		f.mu.Lock()
		f.logs[l.RequestID] = append(f.logs[l.RequestID], l)
		f.mu.Unlock()
	}
}

// Logs returns what was logged so far.
func (f *processFunction) Logs(requestID string) ([]plugins.LogLine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.logs[requestID]), nil
}

func (f *processFunction) stop() {
	f.mu.Lock()
	cmd, conn := f.cmd, f.conn
	f.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = conn.Close()
	}
	f.wg.Wait()
}
