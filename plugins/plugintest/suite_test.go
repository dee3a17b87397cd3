package plugintest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
)

// TestGoSDK runs the suite against the Go SDK, on a host that is as small as a host can be.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "conformance")
	build := exec.Command("go", "build", "-o", bin, "github.com/covey-dev/covey/plugins/examples/conformance")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program under test: %v\n%s", err, out)
	}
	plugintest.Run(t, plugintest.Target{
		Start: func(t *testing.T, o plugintest.Options) plugintest.Function {
			f := &function{bin: bin, options: o, logs: make(map[string][]plugins.LogLine)}
			t.Cleanup(f.stop)
			return f
		},
		Lacks: []plugintest.Capability{plugintest.EnforcesMemory},
	})
}

// function runs one process at a time with os/exec.
type function struct {
	bin     string
	options plugintest.Options

	mu   sync.Mutex
	cmd  *exec.Cmd
	conn *plugins.Conn
	wg   sync.WaitGroup
	logs map[string][]plugins.LogLine
}

var _ plugintest.Function = (*function)(nil)

// Invoke runs one call and ends the process if its deadline passes.
func (f *function) Invoke(ctx context.Context, call *plugins.Call) (*plugins.Reply, error) {
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
func (f *function) instance() (*plugins.Conn, *exec.Cmd, error) {
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
	cmd := exec.Command(f.bin)
	cmd.ExtraFiles = []*os.File{remote}
	handshake := plugins.Handshake()
	cmd.Env = []string{handshake.MagicCookieKey + "=" + handshake.MagicCookieValue}
	for k, v := range f.options.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
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
	return f.conn, f.cmd, nil
}

func (f *function) collect(s *bufio.Scanner) {
	for s.Scan() {
		l := plugins.ParseLogLine(s.Bytes(), time.Now())
		f.mu.Lock()
		f.logs[l.RequestID] = append(f.logs[l.RequestID], l)
		f.mu.Unlock()
	}
}

// Logs returns what was logged so far.
func (f *function) Logs(requestID string) ([]plugins.LogLine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.logs[requestID]), nil
}

func (f *function) stop() {
	f.mu.Lock()
	cmd, conn := f.cmd, f.conn
	f.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = conn.Close()
	}
	f.wg.Wait()
}
