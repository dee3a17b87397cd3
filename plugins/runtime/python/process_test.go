package python_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/runtime/python"
)

// ended waits for the end of the process and returns its status and the rest of its output.
func (f *function) ended() (int, string) {
	f.t.Helper()
	select {
	case <-f.done:
	case <-time.After(patience):
		f.t.Fatal("the process did not end")
	}
	out, err := io.ReadAll(f.stdout)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.cmd.ProcessState.ExitCode(), string(out)
}

// drain asks the process to end. A process that does so before the call has returned makes it fail, so that only the
// exit status tells.
func (f *function) drain() { _ = f.conn.Drain() }

func TestProbeAndInterpreters(t *testing.T) {
	t.Parallel()
	needPython(t)
	for _, path := range python.Interpreters() {
		if !filepath.IsAbs(path) {
			t.Errorf("%s is not absolute", path)
		}
	}
	probe := python.Probe(interpreter)
	out, err := exec.Command(probe[0], probe[1:]...).Output()
	if err != nil || !strings.HasPrefix(string(out), "3.") {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestDrainEndsTheProcessAfterItsCalls(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"main.host", "main.host_thread"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			var started atomic.Int64
			f := become(t, handler, func(ctx context.Context, _ *plugins.HostCall) (*plugins.HostReply, error) {
				started.Add(1)
				select {
				case <-gone:
				case <-ctx.Done():
				}
				return &plugins.HostReply{Body: []byte("late")}, nil
			}, func(s *plugins.Setup) { s.Concurrency = 4 })
			if _, err := f.conn.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for _, size := range []int{0, 1 << 20} { // The second goes over a lane.
				wg.Go(func() {
					body := `{"send":1}` + strings.Repeat(" ", size)
					r, err := f.conn.Invoke(t.Context(), &plugins.Call{Body: []byte(body)})
					if err != nil {
						t.Errorf("%d bytes: %v", size, err)
						return
					}
					r.Release()
				})
			}
			eventually(t, func() error {
				if n := started.Load(); n != 2 {
					return fmt.Errorf("%d calls have begun", n)
				}
				return nil
			})
			f.drain()
			close(gone)
			wg.Wait()
			if code, out := f.ended(); code != 0 || !strings.HasSuffix(out, "the nest is empty\n") {
				t.Errorf("exit status %d, output %q", code, out)
			}
		})
	}
}

func TestIdleProcessIsDrained(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"main.slow", "main.hidden", "main.instance"} {
		f := become(t, handler, nil, nil)
		f.must("0")
		f.must("0" + strings.Repeat(" ", 64<<10))
		f.drain()
		if code, _ := f.ended(); code != 0 {
			t.Errorf("%s: exit status %d", handler, code)
		}
	}
}

func TestEndOfStreamEndsTheProcessAtOnce(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"main.slow", "main.hidden_wait", "main.endless_async"} {
		f := become(t, handler, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = f.invoke(ctx, "", "3600")
		}()
		if _, err := f.conn.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = f.conn.Close()
		cancel()
		<-done
		if code, _ := f.ended(); code != 0 {
			t.Errorf("%s: exit status %d", handler, code)
		}
	}
}

func TestBlankEndsWhenNobodyNeedsIt(t *testing.T) {
	t.Parallel()
	b := startBlank(t, install(t))
	defer b.stop()
	<-b.hello
	_ = b.session.Close()
	b.wg.Wait()
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestProcessWithoutDataPlaneSaysSo(t *testing.T) {
	t.Parallel()
	command := python.Command(interpreter, install(t))
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "descriptor 3") {
		t.Errorf("got %v, %s", err, out)
	}
}

// TestMalformedFramesEndTheProcess sends what no honest node sends.
func TestMalformedFramesEndTheProcess(t *testing.T) {
	t.Parallel()
	header := func(h frame.Header, rest string) string { return string(h.AppendTo(nil)) + rest }
	for name, bytes := range map[string]string{
		"oversize":        header(frame.Header{Length: 1<<20 + 1, Type: frame.InvokeCall, ID: 1}, ""),
		"unknown type":    header(frame.Header{Type: 99}, ""),
		"type zero":       header(frame.Header{}, ""),
		"head too long":   header(frame.Header{Length: 1, Head: 2, Type: frame.InvokeCall, ID: 1}, "x"),
		"call id zero":    header(frame.Header{Type: frame.InvokeCall}, ""),
		"no body length":  header(frame.Header{Length: 1, Head: 1, Type: frame.InvokeCall, Flags: frame.FlagMore, ID: 1}, "\x00"),
		"setup cut off":   header(frame.Header{Length: 2, Type: frame.SetupFrame}, "\x7fx"),
		"hello too new":   header(frame.Header{Length: 2, Head: 2, Type: frame.Hello}, "\x09\x09"),
		"lane without fd": header(frame.Header{Type: frame.Hello, Flags: frame.FlagLane}, ""),
		"short credit":    header(frame.Header{Length: 1, Type: frame.Credit, ID: 1}, "x"),
		"stray answer":    header(frame.Header{Length: 0, Type: frame.HostReply, Flags: frame.FlagStream, ID: 1}, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			local, remote, err := plugins.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			command := python.Command(interpreter, install(t))
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.ExtraFiles = []*os.File{remote}
			var stderr lockedBuffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = remote.Close()
			if _, err := local.Write([]byte(bytes)); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasPrefix(stderr.String(), "covey: ") || strings.Contains(stderr.String(), "Traceback") {
				t.Errorf("%s: exit status %d, %s", hex.EncodeToString([]byte(bytes)), code, stderr.String())
			}
		})
	}
}

// otherFunction answers host calls with three times what they sent.
func otherFunction(_ context.Context, call *plugins.HostCall) (*plugins.HostReply, error) {
	reply := &plugins.HostReply{Body: []byte(strings.Repeat(string(call.Body), 3))}
	reply.ContentType = call.ContentType
	return reply, nil
}

func TestHostCallsFromEverywhere(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"main.host", "main.host_blocking", "main.host_thread"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			f := become(t, handler, otherFunction, nil)
			// The larger one goes, and comes back, in chunks.
			for _, n := range []int{1, 100_000, 2 << 20} {
				want(t, f.must(fmt.Sprintf(`{"send":%d}`, n)), fmt.Sprintf(`{"n":%d,"type":"text/plain; charset=utf-8"}`, 3*n))
			}
		})
	}
	want(t, become(t, "main.host_own_loop", otherFunction, nil).must("null"), `{"n":9}`)
}

func TestHostCallsDuringInit(t *testing.T) {
	t.Parallel()
	f := become(t, "eager.handler", otherFunctionOnce, nil)
	want(t, f.must("null"), `{"early":{"for":"eager"},"threaded":[{"for":"thread"}]}`)
}

// otherFunctionOnce answers with what was sent.
func otherFunctionOnce(_ context.Context, call *plugins.HostCall) (*plugins.HostReply, error) {
	return &plugins.HostReply{Body: append([]byte(nil), call.Body...)}, nil
}

func TestHostCallEndsWithItsCall(t *testing.T) {
	t.Parallel()
	testCancelled(t, "main.waits_for_host", func(ctx context.Context, _ *plugins.HostCall) (*plugins.HostReply, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, `["Cancelled"]`)
}

// TestPreparedBytecodeIsUsed changes the code behind a cache's back, which a node never does, to see which is run.
func TestPreparedBytecodeIsUsed(t *testing.T) {
	t.Parallel()
	dir := install(t)
	code := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(code, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("main.py", "import lib.deep\n\ndef handler(event, context):\n    return ['prepared', lib.deep.WORD]\n")
	write("vendor/lib/deep.py", "WORD = 'deep'\n")
	write("template.py", "{{ this is no Python }}\n")
	cache := prepare(t, dir, code)
	write("main.py", "import lib.deep\n\ndef handler(event, context):\n    return ['changed', lib.deep.WORD]\n")
	for cache, body := range map[string]string{cache: `["prepared","deep"]`, "": `["changed","deep"]`} {
		f := become(t, "", nil, func(s *plugins.Setup) { s.Code, s.Cache = code, cache })
		want(t, f.must("null"), body)
	}
	if _, err := os.Stat(filepath.Join(code, "__pycache__")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime wrote into the code's folder: %v", err)
	}
}

func TestGoPluginAttaches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ handler, payload, output, failure string }{
		{"main.slow", "0", "slept", `"x"`},
		{"main.instance", "0", `{"main":true}`, ""},
		{"main.objects", "0", "{\"n\":1}\ntext\nbytes", ""},
		{"main.deep", "", "", "0"},
	} {
		t.Run(c.handler, func(t *testing.T) {
			t.Parallel()
			f := become(t, c.handler, nil, nil)
			if _, err := f.conn.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			a, err := plugins.Attach(t.Context(), plugins.AttachConfig{Process: f, Stdout: f.stdout, TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Ping(); err != nil {
				t.Error(err)
			}
			client, err := a.Function()
			if err != nil {
				t.Fatal(err)
			}
			if c.output != "" {
				if got, err := client.Invoke([]byte(c.payload)); err != nil || string(got) != c.output {
					t.Errorf("got %q, %v", got, err)
				}
			}
			if c.failure != "" {
				if _, err := client.Invoke([]byte(c.failure)); err == nil || !strings.Contains(fmt.Sprint(err), "Error: ") {
					t.Errorf("got %v, want the function's error", err)
				}
			}
			_ = client.Close()
			if err := a.Quit(); err != nil {
				t.Error(err)
			}
			<-f.done
			if code := f.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGoPluginCarriesLargeValues needs yamux's windows in both directions.
func TestGoPluginCarriesLargeValues(t *testing.T) {
	t.Parallel()
	f := become(t, "main.describe_raw", nil, nil)
	a, err := plugins.Attach(t.Context(), plugins.AttachConfig{Process: f, Stdout: f.stdout, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	client, err := a.Function()
	if err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("x", 2<<20)
	got, err := client.Invoke([]byte(payload))
	if err != nil || len(got) < 2*len(payload) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	_ = client.Close()
	_ = a.Quit()
	<-f.done
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
