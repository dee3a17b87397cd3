package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/covey-dev/covey/internal/loopback"
)

// node is one machine of a test: a data directory, three ports, and a daemon
// that runs or does not.
type node struct {
	t    testing.TB
	name string
	bin  string // the daemon's program
	dir  string
	log  string // what the daemon wrote, over all its starts

	// The addresses to listen on; move changes them.
	api, peer, gossip string

	mu      sync.Mutex
	proc    *process // guarded by mu; nil while no daemon runs
	id      string   // guarded by mu
	outputs *os.File // guarded by mu
}

// process is one run of the daemon.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once it was waited for
	state  error         // set before exited is closed
}

// newNode prepares a machine without starting anything. Its daemon, if one runs
// at the end of the test, is ended with the test.
func newNode(t testing.TB, name string) *node {
	t.Helper()
	root := t.TempDir()
	n := &node{t: t, name: name, bin: coveyBin, dir: filepath.Join(root, "data"), log: filepath.Join(root, name+".log")}
	n.move()
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	n.outputs = out
	t.Cleanup(n.cleanup)
	return n
}

// cleanup ends the daemon and, after a failure, shows the end of its log.
func (n *node) cleanup() {
	if p := n.running(); p != nil {
		select {
		case <-p.exited:
			n.t.Errorf("%s ended by itself: %v", n.name, p.state)
		default:
			n.kill()
		}
	}
	_ = n.outputs.Close()
	if n.t.Failed() {
		n.t.Logf("end of the log of %s:\n%s", n.name, tail(n.log, 12<<10))
	}
}

func tail(path string, most int) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	if len(text) > most {
		text = text[len(text)-most:]
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text
}

// move gives the machine other addresses. They are used from the next start on.
func (n *node) move() {
	n.api, n.peer, n.gossip = loopback.Address(n.t), loopback.Address(n.t), loopback.Address(n.t)
}

// launch starts the daemon with further flags and does not wait for anything.
func (n *node) launch(flags ...string) *process {
	n.t.Helper()
	args := append([]string{
		"start", "--name", n.name, "--data-dir", n.dir, "--advertise", "127.0.0.1",
		"--api", n.api, "--peer", n.peer, "--gossip", n.gossip, "--memory", "2GiB", "--log-format", "json",
	}, flags...)
	cmd := exec.Command(n.bin, args...)
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = n.outputs, n.outputs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		n.t.Fatalf("%s runs already", n.name)
	}
	if err := startProcess(cmd); err != nil {
		n.t.Fatalf("start %s: %v", n.name, err)
	}
	n.proc = p
	go func() { // ends with the process, which every test ends
		p.state = cmd.Wait()
		if p.state == nil {
			p.state = errors.New("exit status 0")
		}
		close(p.exited)
	}()
	return p
}

// environment is the test's own without what would select another cluster.
func environment() []string {
	var env []string
	for _, pair := range os.Environ() {
		if len(pair) < 6 || pair[:6] != "COVEY_" {
			env = append(env, pair)
		}
	}
	return env
}

// start starts the daemon and waits until it serves.
func (n *node) start(flags ...string) {
	n.t.Helper()
	p := n.launch(flags...)
	n.awaitReady(p)
}

func (n *node) awaitReady(p *process) {
	n.t.Helper()
	await(n.t, 60*time.Second, n.name+" is ready", func() error {
		select {
		case <-p.exited:
			n.t.Fatalf("%s ended while it started: %v", n.name, p.state)
		default:
		}
		return get("http://" + n.api + "/readyz?verbose")
	})
}

// get wants status 200.
func get(url string) error {
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	return err
}

func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// pid is the daemon's.
func (n *node) pid() int { return n.running().cmd.Process.Pid }

// kill ends the daemon with SIGKILL and waits until it is gone.
func (n *node) kill() {
	n.t.Helper()
	n.end(syscall.SIGKILL, 10*time.Second)
}

// stop ends the daemon in order.
func (n *node) stop() {
	n.t.Helper()
	n.end(syscall.SIGTERM, 60*time.Second)
}

func (n *node) end(signal syscall.Signal, most time.Duration) {
	n.t.Helper()
	n.mu.Lock()
	p := n.proc
	n.proc = nil
	n.mu.Unlock()
	if p == nil {
		n.t.Errorf("%s does not run", n.name)
		return
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		n.t.Errorf("%s to %s: %v", signal, n.name, err)
	}
	select {
	case <-p.exited:
		if signal == syscall.SIGTERM && p.state.Error() != "exit status 0" {
			n.t.Errorf("%s stopped with %v", n.name, p.state)
		}
	case <-time.After(most):
		n.t.Errorf("%s did not end within %v of %s", n.name, most, signal)
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// pause stops the daemon's clock, and resume lets it go on: a machine that hangs.
// On a busy machine the last threads stop a while after the signal; pause returns
// once they all have.
func (n *node) pause() {
	n.t.Helper()
	n.signal(syscall.SIGSTOP)
	await(n.t, 10*time.Second, n.name+" is stopped", func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.pid()))
		for _, path := range threads {
			text, _ := os.ReadFile(path) // a thread may end
			// pid (name) state ...
			if _, state, ok := bytes.Cut(text, []byte(") ")); ok && !bytes.HasPrefix(state, []byte("T")) {
				return fmt.Errorf("%s: %s", path, text)
			}
		}
		return err
	})
}

func (n *node) resume() { n.signal(syscall.SIGCONT) }

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.running().cmd.Process.Signal(s); err != nil {
		n.t.Fatalf("%s to %s: %v", s, n.name, err)
	}
}
