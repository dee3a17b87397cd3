package python_test

import (
	"bytes"
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

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/runtime/python"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// function is a process that has become a function.
type function struct {
	t      *testing.T
	cmd    *exec.Cmd
	conn   *plugins.Conn
	stdout io.Reader
	stderr lockedBuffer
	done   chan struct{} // closed when the process has ended
	calls  int
}

var _ plugins.ProcessHandle = (*function)(nil)

func (f *function) Pid() int              { return f.cmd.Process.Pid }
func (f *function) Done() <-chan struct{} { return f.done }

// lockedBuffer collects output that is looked at while it comes in.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// become starts the runtime and makes it the handler of testdata/behaviour. change may change the SETUP.
func become(t *testing.T, handler string, host plugins.HostHandler, change func(*plugins.Setup)) *function {
	t.Helper()
	dir := install(t)
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
	command := python.Command(interpreter, dir)
	f := &function{t: t, cmd: exec.Command(command[0], command[1:]...), stdout: stdout, done: make(chan struct{})}
	f.cmd.ExtraFiles = []*os.File{remote}
	f.cmd.Env = []string{"COVEY_PLUGIN=1", "PATH=/usr/bin:/bin", plugins.SocketDirKey + "=" + t.TempDir()}
	f.cmd.Stdout, f.cmd.Stderr = output, &f.stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.conn = plugins.NewConn(local, plugins.ConnConfig{Host: host})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = f.cmd.Wait()
		close(f.done)
	})
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		wg.Wait()
		_ = f.conn.Close()
		_ = stdout.Close()
		if t.Failed() {
			t.Logf("standard error:\n%s", f.stderr.String())
		}
	})
	code, err := filepath.Abs("testdata/behaviour")
	if err != nil {
		t.Fatal(err)
	}
	setup := &plugins.Setup{App: "default", Function: "behaviour", Version: 1, Handler: handler, Code: code, Timeout: patience, Concurrency: 1}
	if change != nil {
		change(setup)
	}
	if err := f.conn.Setup(setup); err != nil {
		t.Fatal(err)
	}
	return f
}

// reply is the whole answer of a call.
type reply struct {
	body string
	frame.Result
	streamed bool
}

// invoke runs one call with a payload of the given content type.
func (f *function) invoke(ctx context.Context, contentType, payload string) (reply, error) {
	f.calls++
	call := &plugins.Call{Body: []byte(payload)}
	call.RequestID, call.Attempt, call.ContentType = fmt.Sprint("call-", f.calls), 1, contentType
	answer, err := f.conn.Invoke(ctx, call)
	if err != nil {
		return reply{}, err
	}
	defer answer.Release()
	r := reply{Result: answer.Result, body: string(answer.Body), streamed: answer.Stream != nil}
	if r.streamed {
		defer answer.Stream.Close()
		b, err := io.ReadAll(answer.Stream)
		return reply{Result: answer.Result, body: string(b), streamed: true}, err
	}
	return r, nil
}

// must runs a call with a JSON payload that must succeed.
func (f *function) must(payload string) reply {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	r, err := f.invoke(ctx, "application/json", payload)
	if err != nil {
		f.t.Fatalf("%.100s: %v", payload, err)
	}
	return r
}

// want compares a body.
func want(t *testing.T, r reply, body string) {
	t.Helper()
	if r.body != body {
		t.Errorf("got %.300q, want %.300q", r.body, body)
	}
}

// eventually polls check until it succeeds.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
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

func TestEventIsWhatTheContentTypeSays(t *testing.T) {
	t.Parallel()
	f := become(t, "main.describe", nil, nil)
	for _, c := range []struct{ contentType, payload, typ, repr string }{
		{"application/json", `{"a":1}`, "dict", "{'a': 1}"},
		{"application/cloudevents+json; charset=utf-8", `[1]`, "list", "[1]"},
		{"", `7`, "int", "7"},
		{"", `not json`, "bytes", "b'not json'"},
		{"application/x-www-form-urlencoded", `{"name": "quail"}`, "dict", "{'name': 'quail'}"},
		{"text/csv", `7`, "bytes", "b'7'"},
		{"application/octet-stream", "\xff\x00", "bytes", `b'\xff\x00'`},
		{"", "", "NoneType", "None"},
	} {
		r, err := f.invoke(t.Context(), c.contentType, c.payload)
		if err != nil {
			t.Errorf("%s %q: %v", c.contentType, c.payload, err)
			continue
		}
		if !strings.Contains(r.body, `"type":"`+c.typ+`"`) || !strings.Contains(r.body, strings.ReplaceAll(c.repr, `\`, `\\`)) {
			t.Errorf("%s %q: got %s", c.contentType, c.payload, r.body)
		}
	}
	_, err := f.invoke(t.Context(), "application/json", "{")
	var function *plugins.FunctionError
	if !errors.As(err, &function) || function.Type != "InvalidInput" || function.Unhandled {
		t.Errorf("got %v, want InvalidInput", err)
	}
}

func TestRawHandlerGetsBytes(t *testing.T) {
	t.Parallel()
	f := become(t, "main.describe_raw", nil, nil)
	want(t, f.must(`{"a":1}`), `{"type":"bytes","repr":"b'{\"a\":1}'","payload":"{\"a\":1}"}`)
	big := strings.Repeat("x", 5<<19)
	if r := f.must(big); len(r.body) < 2*len(big) || !strings.HasPrefix(r.body, `{"type":"bytes"`) {
		t.Errorf("got %.100q", r.body)
	}
}

func TestAnswersBecomeBytes(t *testing.T) {
	t.Parallel()
	f := become(t, "main.answers", nil, nil)
	for _, c := range []struct{ kind, body, contentType string }{
		{"none", "null", "application/json"},
		{"text", "chirp é", "text/plain; charset=utf-8"},
		{"bytes", "\x00\xff", ""},
		{"view", "seen", ""},
		{"list", `[1,{"a":null}]`, "application/json"},
		{"half", `{"half": "\ud83d"}`, "application/json"},
	} {
		r := f.must(`"` + c.kind + `"`)
		want(t, r, c.body)
		if r.ContentType != c.contentType {
			t.Errorf("%s: content type %q, want %q", c.kind, r.ContentType, c.contentType)
		}
	}
	for kind, typ := range map[string]string{"set": "TypeError", "nan": "ValueError", "surrogate": "UnicodeEncodeError"} {
		_, err := f.invoke(t.Context(), "application/json", `"`+kind+`"`)
		var function *plugins.FunctionError
		if !errors.As(err, &function) || function.Type != typ || !function.Unhandled {
			t.Errorf("%s: got %v, want %s", kind, err, typ)
		}
	}
}

func TestAnswerCarriesStatusAndAttributes(t *testing.T) {
	t.Parallel()
	r := become(t, "main.beside", nil, nil).must("null")
	if r.ContentType != "text/html" || r.Status != 201 || r.Attributes.Get("Location") != "/nest" || r.body != "<p>" {
		t.Errorf("got %+v", r)
	}
	if r.Stats.Init <= 0 || r.Stats.Run <= 0 || r.Stats.PeakMemory < 1<<20 {
		t.Errorf("stats %+v", r.Stats)
	}
}

func TestGeneratorStreamsValues(t *testing.T) {
	t.Parallel()
	r := become(t, "main.objects", nil, nil).must("null")
	want(t, r, "{\"n\":1}\ntext\nbytes")
	if !r.streamed || r.ContentType != "application/x-ndjson" {
		t.Errorf("got %+v", r)
	}
	if r := become(t, "main.nothing", nil, nil).must("null"); r.streamed || r.body != "" {
		t.Errorf("an empty generator: got %+v", r)
	}
}

// TestStreamIsPacedAndClosed checks that a generator does not run ahead of its reader, and learns when that is gone.
func TestStreamIsPacedAndClosed(t *testing.T) {
	t.Parallel()
	for handler, closed := range map[string]string{"main.endless_or_state": "sync", "main.endless_async": "async"} {
		t.Run(closed, func(t *testing.T) {
			t.Parallel()
			f := become(t, handler, nil, func(s *plugins.Setup) { s.Concurrency = 4 })
			call := &plugins.Call{Body: []byte("null")}
			answer, err := f.conn.Invoke(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(answer.Stream, make([]byte, 3<<20)); err != nil {
				t.Fatal(err)
			}
			// Three megabytes are read, and one and a half may be on the way.
			produced := func(want string) error {
				if r := f.must(`"state"`); !strings.Contains(r.body, want) {
					return fmt.Errorf("state %s, want %s in it", r.body, want)
				}
				return nil
			}
			var n int
			if _, err := fmt.Sscanf(f.must(`"state"`).body, `{"produced":%d`, &n); err != nil || n < 48 || n > 80 {
				t.Errorf("%d chunks for a reader of 48: %v", n, err)
			}
			_ = answer.Stream.Close()
			answer.Release()
			eventually(t, func() error { return produced(`"closed":["` + closed + `"]`) })
		})
	}
}

func TestUnhandledErrorShowsTheHandlersTraceback(t *testing.T) {
	t.Parallel()
	f := become(t, "main.deep", nil, nil)
	_, err := f.invoke(t.Context(), "", "null")
	var function *plugins.FunctionError
	if !errors.As(err, &function) || function.Type != "LookupError" || function.Message != "no worm" || !function.Unhandled {
		t.Fatalf("got %v", err)
	}
	if !strings.HasPrefix(function.Stack, "Traceback") || !strings.Contains(function.Stack, "in fall") || strings.Contains(function.Stack, "covey_runtime") {
		t.Errorf("stack:\n%s", function.Stack)
	}
}

func TestInitFailureIsShown(t *testing.T) {
	t.Parallel()
	for handler, texts := range map[string][2]string{
		"broken.handler":    {"SyntaxError", "def handler(event, context)"},
		"absent.handler":    {"ModuleNotFoundError", "No module named 'absent'"},
		"main.absent":       {"HandlerNotFound", "has no absent"},
		"main.NOT_CALLABLE": {"HandlerNotFound", "no function"},
		"handler":           {"HandlerNotFound", "module.function"},
		"../main.handler":   {"HandlerNotFound", "module.function"},
	} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			f := become(t, handler, nil, nil)
			_, err := f.conn.Ready(t.Context())
			var failed *plugins.InitError
			if !errors.As(err, &failed) || failed.Type != texts[0] {
				t.Fatalf("got %v, want %s", err, texts[0])
			}
			if !strings.Contains(failed.Message+failed.Stack, texts[1]) || !strings.Contains(failed.Stack, texts[0]) && texts[0] != "HandlerNotFound" {
				t.Errorf("message %q, stack:\n%s", failed.Message, failed.Stack)
			}
			<-f.done
			if code := f.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}

func TestModuleInFolder(t *testing.T) {
	t.Parallel()
	want(t, become(t, "tools/deep.handler", nil, nil).must("null"), `{"name":"tools.deep"}`)
}

func TestHandlerRunsOnTheMainThread(t *testing.T) {
	t.Parallel()
	want(t, become(t, "main.where", nil, nil).must("null"), `{"thread":true,"twigs":12,"covey":false}`)
	want(t, become(t, "main.instance", nil, nil).must("null"), `{"main":true}`)
}

func TestPrintsLeaveBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	f := become(t, "main.prints", nil, nil)
	f.must("1")
	got := make([]byte, len("out 1\nno newline"))
	if _, err := io.ReadFull(f.stdout, got); err != nil || string(got) != "out 1\nno newline" {
		t.Errorf("got %q, %v", got, err)
	}
	eventually(t, func() error {
		if s := f.stderr.String(); s != "err 1\n" {
			return fmt.Errorf("standard error %q", s)
		}
		return nil
	})
}

func TestLoggingWritesTheNodesLines(t *testing.T) {
	t.Parallel()
	f := become(t, "main.logs", nil, nil)
	f.must("null")
	var lines []plugins.LogLine
	eventually(t, func() error {
		lines = lines[:0]
		long := 0
		for line := range strings.Lines(f.stderr.String()) {
			l := plugins.ParseLogLine([]byte(line), time.Time{})
			if l.RequestID != "call-1" || l.Time.IsZero() || len(line) > 16<<10 {
				t.Fatalf("line of %d bytes %+.200v", len(line), l)
			}
			lines = append(lines, l)
			long += strings.Count(l.Message, "x")
		}
		if len(lines) < 3 || long < 40000 {
			return fmt.Errorf("%d lines", len(lines))
		}
		return nil
	})
	if l := lines[0]; l.Level != "warn" || l.Message != "low on twigs" || string(l.Fields) != `{"@module":"nest","left":3}` {
		t.Errorf("got %+v %s", l, l.Fields)
	}
	if l := lines[1]; l.Level != "error" || !strings.HasPrefix(l.Message, "fell\nTraceback") || !strings.Contains(l.Message, "ZeroDivisionError") {
		t.Errorf("got %+v", l)
	}
}

func TestChildrenDoNotInheritTheDataPlane(t *testing.T) {
	t.Parallel()
	want(t, become(t, "main.inherited", nil, nil).must("null"), "closed")
}

func TestExitStatusOfAHandlerIsTheProcesses(t *testing.T) {
	t.Parallel()
	f := become(t, "main.exits", nil, nil)
	_, err := f.invoke(t.Context(), "application/json", "3")
	var exit *plugins.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("got %v", err)
	}
	<-f.done
	if code := f.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit status %d", code)
	}
}

// TestCallsWaitForTheirTurn sends more calls than the function takes at once.
func TestCallsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	f := become(t, "main.slow", nil, nil)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			reply, err := f.conn.Invoke(t.Context(), &plugins.Call{Body: []byte("0.02")})
			if err != nil || string(reply.Body) != "slept" {
				t.Errorf("got %v", err)
				return
			}
			reply.Release()
		})
	}
	wg.Wait()
}

func TestHandlersThatTurnOutToBeAsync(t *testing.T) {
	t.Parallel()
	want(t, become(t, "main.hidden", nil, nil).must("null"), `{"id":"call-1","main":false}`)
	want(t, become(t, "main.hidden_stream", nil, nil).must("null"), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n")
	testCancelled(t, "main.hidden_wait", nil, `["hidden"]`)
}

// testCancelled cancels a call of a handler and waits until it has noted that.
func testCancelled(t *testing.T, handler string, host plugins.HostHandler, state string) {
	t.Helper()
	f := become(t, handler, host, func(s *plugins.Setup) { s.Concurrency = 2 })
	f.must(`"state"`)
	// Without a deadline, which the function would know of and might be first to notice.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := f.invoke(ctx, "", "null"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	eventually(t, func() error {
		if r := f.must(`"state"`); r.body != state {
			return fmt.Errorf("got %s", r.body)
		}
		return nil
	})
}
