package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

// process is a started program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

var _ ProcessHandle = (*process)(nil)

func (p *process) Pid() int              { return p.cmd.Process.Pid }
func (p *process) Done() <-chan struct{} { return p.done }

// build compiles an example.
func build(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", bin, "github.com/covey-dev/covey/plugins/examples/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return bin
}

// start runs bin as a node would, with a data plane.
func start(t *testing.T, bin string) (*process, *Conn, io.Reader) {
	t.Helper()
	local, remote, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	stdout, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd := exec.Command(bin)
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Stdout = output
	handshake := Handshake()
	cmd.Env = []string{handshake.MagicCookieKey + "=" + handshake.MagicCookieValue, SocketDirKey + "=" + t.TempDir()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = cmd.Wait()
		close(p.done)
	})
	c := NewConn(local, ConnConfig{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		wg.Wait()
		_ = c.Close()
		_ = stdout.Close()
	})
	return p, c, stdout
}

func TestAttachToRunningProcess(t *testing.T) {
	t.Parallel()
	p, c, stdout := start(t, build(t, "echo"))
	if got, err := invoke(t, c, []byte("hi")); err != nil || string(got) != "hi" {
		t.Fatalf("data plane: %q, %v", got, err)
	}
	a, err := Attach(t.Context(), AttachConfig{Process: p, Stdout: stdout, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Ping(); err != nil {
		t.Error(err)
	}
	f, err := a.Function()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Invoke([]byte("over net/rpc")); err != nil || string(got) != "over net/rpc" {
		t.Errorf("net/rpc: %q, %v", got, err)
	}
	_ = f.Close()
	if err := a.Quit(); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		t.Fatal("the process did not end")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// TestStockClient lets an unchanged go-plugin client start the function, without a data plane.
func TestStockClient(t *testing.T) {
	t.Parallel()
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: Handshake(), Plugins: Plugins(), Cmd: exec.Command(build(t, "hello")), Logger: hclog.NewNullLogger(),
	})
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Ping(); err != nil {
		t.Error(err)
	}
	if _, err := protocol.Dispense("unheard of"); err == nil {
		t.Error("dispensed an unknown plugin")
	}
	raw, err := protocol.Dispense(PluginName)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := raw.(*FunctionClient)
	if !ok {
		t.Fatalf("dispensed a %T", raw)
	}
	defer f.Close()
	if got, err := f.Invoke([]byte(`{"name":"quail"}`)); err != nil || string(got) != `{"greeting":"Hello, quail!"}` {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := f.Invoke([]byte(`{}`)); err == nil || !strings.Contains(err.Error(), "MissingName") {
		t.Errorf("got %v, want the function's error", err)
	}
}

// TestAttachSplitsOutput checks that what a function prints reaches Output, before and after the handshake.
func TestAttachSplitsOutput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine+10)
	var got []string
	o := newOutputReader(AttachConfig{
		Stdout: strings.NewReader("early\n1|1|unix|/tmp/s|netrpc|\nlate\r\n1|1|unix|/tmp/t|netrpc|\n" + long + "\nlast"),
		Output: func(line []byte) { got = append(got, string(line)) },
	})
	var wg sync.WaitGroup
	wg.Go(o.run)
	handshake, err := io.ReadAll(o.handshake)
	wg.Wait()
	if err != nil || string(handshake) != "1|1|unix|/tmp/s|netrpc|\n" {
		t.Errorf("handshake %q, %v", handshake, err)
	}
	want := []string{"early", "late", "1|1|unix|/tmp/t|netrpc|", long[:maxLine], long[maxLine:], "last"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %d lines %.300q", len(got), got)
	}
}

// TestAttachGivesUp covers a process that never prints the handshake, and one that ends instead.
func TestAttachGivesUp(t *testing.T) {
	t.Parallel()
	silent, writer := io.Pipe()
	defer writer.Close()
	done := make(chan struct{})
	defer close(done)
	p := &process{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}, done: done}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := Attach(ctx, AttachConfig{Process: p, Stdout: silent, TempDir: t.TempDir()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: got %v, want the deadline", err)
	}
	if _, err := Attach(t.Context(), AttachConfig{Process: p, Stdout: strings.NewReader("oops\n"), TempDir: t.TempDir()}); err == nil {
		t.Error("attached to a process that printed no handshake")
	}
}
