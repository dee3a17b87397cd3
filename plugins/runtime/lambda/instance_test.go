package lambda_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// blank is one process of the runtime, started ahead as a node does.
type blank struct {
	conn   *plugins.Conn
	cmd    *exec.Cmd
	output lockedBuffer
	once   sync.Once
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startBlank starts a process of the runtime. It ends with the test.
func startBlank(t testing.TB) *blank {
	t.Helper()
	local, remote, err := plugins.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	process := host(t, nil)
	cmd := exec.Command(process.Command[0])
	cmd.ExtraFiles = []*os.File{remote}
	handshake := plugins.Handshake()
	cmd.Env = append(process.Env, handshake.MagicCookieKey+"="+handshake.MagicCookieValue)
	b := &blank{cmd: cmd}
	cmd.Stderr = &b.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.conn = plugins.NewConn(local, plugins.ConnConfig{})
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			t.Logf("it printed:\n%s", b.output.String())
		}
	})
	return b
}

func (b *blank) stop() {
	b.once.Do(func() {
		_ = b.cmd.Process.Kill()
		_ = b.conn.Close()
		_ = b.cmd.Wait()
	})
}

// lines returns what was logged under a request id; "" is for the lines of none.
func (b *blank) lines(requestID string) []plugins.LogLine {
	var out []plugins.LogLine
	for line := range strings.Lines(b.output.String()) {
		if l := plugins.ParseLogLine([]byte(line), time.Now()); l.RequestID == requestID {
			out = append(out, l)
		}
	}
	return out
}

// reported waits until all that a call left in the log is there.
func (b *blank) reported(t testing.TB, requestID string) {
	t.Helper()
	eventually(t, func() error {
		if !strings.Contains(b.output.String(), `"REPORT RequestId: `+requestID+`\u0009`) {
			return errors.New("no REPORT of " + requestID)
		}
		return nil
	})
}

func newCall(id string, body []byte) *plugins.Call {
	call := &plugins.Call{Body: body}
	call.RequestID, call.Attempt, call.App, call.Function, call.Version = id, 1, "default", "f", 1
	return call
}

// invoke runs a call that must succeed.
func (b *blank) invoke(t testing.TB, id string, body []byte) []byte {
	t.Helper()
	out, err := b.try(newCall(id, body))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a call and returns its whole output.
func (b *blank) try(call *plugins.Call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reply, err := b.conn.Invoke(ctx, call)
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	if reply.Stream != nil {
		defer reply.Stream.Close()
		return io.ReadAll(reply.Stream)
	}
	return bytes.Clone(reply.Body), nil
}

func setupOf(code, handler string, env ...string) *covey.Setup {
	s := &covey.Setup{
		App: "default", Function: "f", Version: 1, Code: code, Handler: handler,
		Timeout: time.Minute, Concurrency: 1, Memory: 256 << 20,
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		s.Env = append(s.Env, frame.Attribute{Name: name, Value: value})
	}
	return s
}

// write makes a package of the given files.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	code := t.TempDir()
	for name, text := range files {
		path := filepath.Join(code, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		// Written by a process of its own: while this one has a program open for writing,
		// a child that it starts for another test would keep it from being executed.
		tee := exec.Command("sh", "-c", `cat >"$0" && chmod 755 "$0"`, path)
		tee.Stdin = strings.NewReader(text)
		if out, err := tee.CombinedOutput(); err != nil {
			t.Fatalf("write %s: %v: %s", path, err, out)
		}
	}
	return code
}

// eventually polls check until it succeeds.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("gave up after %v: %v", patience, err)
		}
		<-tick.C
	}
}

// puppet is an instance whose program does nothing: the test speaks to the Runtime API in its place.
type puppet struct {
	*blank
	env    map[string]string // of the program
	client *http.Client
}

// puppetScript leaves its environment behind, and lives for a while.
const puppetScript = `#!/bin/sh
pwd > "$PUPPET.new"
env >> "$PUPPET.new"
mv "$PUPPET.new" "$PUPPET"
exec sleep 60
`

// startPuppet starts one. Requests to its API may wait as long as the test does.
func startPuppet(t *testing.T, change func(*covey.Setup)) *puppet {
	t.Helper()
	file := filepath.Join(t.TempDir(), "puppet")
	setup := setupOf(write(t, map[string]string{"bootstrap": puppetScript}), "", "PUPPET="+file)
	if change != nil {
		change(setup)
	}
	p := &puppet{blank: startBlank(t), env: make(map[string]string), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(p.client.CloseIdleConnections)
	if err := p.conn.Setup(setup); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			name, value, _ := strings.Cut(line, "=")
			if i == 0 {
				name, value = "cwd", line
			}
			p.env[name] = value
		}
		return nil
	})
	return p
}

// request sends a request to the Runtime API and returns the answer with its body read.
func (p *puppet) request(method, path string, body io.Reader, header http.Header) (*http.Response, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.env["AWS_LAMBDA_RUNTIME_API"]+"/2018-06-01/"+path, body)
	if err != nil {
		return nil, "", err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if trailing, ok := body.(*trailingReader); ok {
		r.Trailer = trailing.trailer
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// do is request for the goroutine of the test.
func (p *puppet) do(t *testing.T, method, path string, body io.Reader, header http.Header) (*http.Response, string) {
	t.Helper()
	resp, text, err := p.request(method, path, body, header)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, text
}

// next takes the next event.
func (p *puppet) next(t *testing.T) (*http.Response, string) {
	t.Helper()
	resp, body := p.do(t, "GET", "runtime/invocation/next", nil, nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("next: status %d: %s", resp.StatusCode, body)
	}
	return resp, body
}

// respond answers a call, and checks the API's answer to that.
func (p *puppet) respond(t *testing.T, id string, body io.Reader, header http.Header, want int) string {
	t.Helper()
	resp, text := p.do(t, "POST", "runtime/invocation/"+id+"/response", body, header)
	if resp.StatusCode != want {
		t.Errorf("response of %s: status %d, want %d: %s", id, resp.StatusCode, want, text)
	}
	return text
}

// outcome is how a call ended.
type outcome struct {
	reply *plugins.Reply
	body  []byte
	err   error
}

// send starts a call, whose outcome comes on the channel.
func (p *puppet) send(call *plugins.Call) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		reply, err := p.conn.Invoke(ctx, call)
		if err != nil {
			out <- outcome{err: err}
			return
		}
		defer reply.Release()
		o := outcome{reply: reply, body: bytes.Clone(reply.Body)}
		if reply.Stream != nil {
			defer reply.Stream.Close()
			o.body, o.err = io.ReadAll(reply.Stream)
		}
		out <- o
	}()
	return out
}

// failure waits for the outcome of a call that the function failed.
func failure(t *testing.T, out <-chan outcome) *plugins.FunctionError {
	t.Helper()
	o := <-out
	e, ok := errors.AsType[*plugins.FunctionError](o.err)
	if !ok {
		t.Fatalf("got %v, want a *FunctionError", o.err)
	}
	return e
}

// trailingReader sets trailers once it has been read to its end.
type trailingReader struct {
	io.Reader
	trailer http.Header
	values  map[string]string
}

func newTrailing(body string, values map[string]string) *trailingReader {
	r := &trailingReader{Reader: strings.NewReader(body), trailer: make(http.Header), values: values}
	for name := range values {
		r.trailer[name] = nil
	}
	return r
}

func (r *trailingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		for name, value := range r.values {
			r.trailer.Set(name, value)
		}
	}
	return n, err
}

func messages(lines []plugins.LogLine) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l.Message)
	}
	return b.String()
}
