package nodejs_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/runtime/nodejs"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// instance is a process of the runtime, as a node has it.
type instance struct {
	conn   *plugins.Conn
	cmd    *exec.Cmd
	stdout io.ReadCloser
	stderr bytes.Buffer  // may be read once done is closed
	done   chan struct{} // closed when the process has ended
}

var _ plugins.ProcessHandle = (*instance)(nil)

func (i *instance) Pid() int              { return i.cmd.Process.Pid }
func (i *instance) Done() <-chan struct{} { return i.done }

// blank starts a process that waits for SETUP.
func blank(t testing.TB, cfg plugins.ConnConfig) *instance {
	t.Helper()
	return blankIn(t, interpreter(t), install(t), cfg)
}

func blankIn(t testing.TB, interpreter, dir string, cfg plugins.ConnConfig) *instance {
	t.Helper()
	local, remote, err := plugins.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	stdout, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	args := nodejs.Command(interpreter, dir)
	i := &instance{cmd: exec.Command(args[0], args[1:]...), stdout: stdout, done: make(chan struct{})}
	i.cmd.ExtraFiles = []*os.File{remote}
	i.cmd.Stdout, i.cmd.Stderr = output, &i.stderr
	handshake := plugins.Handshake()
	i.cmd.Env = []string{handshake.MagicCookieKey + "=" + handshake.MagicCookieValue, plugins.SocketDirKey + "=" + t.TempDir()}
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = i.cmd.Wait()
		close(i.done)
	})
	i.conn = plugins.NewConn(local, cfg)
	t.Cleanup(func() {
		_ = i.cmd.Process.Kill()
		wg.Wait()
		_ = i.conn.Close()
		_ = stdout.Close()
	})
	return i
}

// become makes a blank the function whose files are given by name.
func (i *instance) become(t testing.TB, setup plugins.Setup) {
	t.Helper()
	setup.App, setup.Function, setup.Version, setup.Concurrency = "default", "test", 1, 64
	if err := i.conn.Setup(&setup); err != nil {
		t.Fatal(err)
	}
}

// start runs the function whose files are given by name and text.
func start(t testing.TB, files map[string]string) *instance {
	t.Helper()
	i := blank(t, plugins.ConnConfig{})
	i.become(t, plugins.Setup{Code: folder(t, files)})
	return i
}

// folder writes files into a new folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// invoke runs one call with a JSON or other payload and returns the output.
func (i *instance) invoke(t testing.TB, call plugins.Call) (*plugins.Reply, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if call.RequestID == "" {
		call.RequestID = t.Name()
	}
	reply, err := i.conn.Invoke(ctx, &call)
	if err != nil {
		return nil, nil, err
	}
	defer reply.Release()
	if reply.Stream == nil {
		return reply, bytes.Clone(reply.Body), nil
	}
	defer reply.Stream.Close()
	body, err := io.ReadAll(reply.Stream)
	return reply, body, err
}

// wait waits for the end of the process and returns its status.
func (i *instance) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-i.done:
		return i.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("the process did not end")
		return 0
	}
}
