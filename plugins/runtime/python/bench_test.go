package python_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/runtime/python"
)

// blank is a process that waits to become a function.
type blank struct {
	cmd     *exec.Cmd
	session *frame.Session
	hello   chan struct{} // closed by the process's HELLO
	ready   chan struct{} // closed by its READY
	wg      sync.WaitGroup
}

// startBlank starts a blank with the runtime in dir. It does not wait for it.
func startBlank(tb testing.TB, dir string) *blank {
	tb.Helper()
	local, remote, err := plugins.Pair()
	if err != nil {
		tb.Fatal(err)
	}
	defer remote.Close()
	command := python.Command(interpreter, dir)
	b := &blank{cmd: exec.Command(command[0], command[1:]...), hello: make(chan struct{}), ready: make(chan struct{})}
	b.cmd.ExtraFiles = []*os.File{remote}
	b.cmd.Env = []string{"COVEY_PLUGIN=1", "PATH=/usr/bin:/bin"}
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	b.session = frame.NewSession(local, frame.SessionConfig{Control: func(h frame.Header, _ []byte) error {
		switch h.Type {
		case frame.Hello:
			close(b.hello)
		case frame.Ready:
			close(b.ready)
		}
		return nil
	}})
	if err := b.session.Send(frame.Hello, &frame.Greeting{Least: 1, Greatest: 1, Window: 1 << 20, MaxBody: 6 << 20}, nil); err != nil {
		tb.Fatal(err)
	}
	b.wg.Go(func() { _ = b.session.Run() })
	b.wg.Go(func() { _ = b.cmd.Wait() })
	return b
}

// stop ends the process.
func (b *blank) stop() {
	_ = b.cmd.Process.Kill()
	_ = b.session.Close()
	b.wg.Wait()
}

// become sends SETUP for a handler of testdata/bench.
func (b *blank) become(tb testing.TB, handler, cache string, concurrency int) {
	tb.Helper()
	code, err := filepath.Abs("testdata/bench")
	if err != nil {
		tb.Fatal(err)
	}
	setup := frame.Setup{Function: "bench", Handler: handler, Code: code, Cache: cache, Concurrency: uint32(concurrency)}
	if err := b.session.Send(frame.SetupFrame, nil, setup.AppendTo(nil)); err != nil {
		tb.Fatal(err)
	}
}

// call runs one small call.
func (b *blank) call(tb testing.TB) {
	head := frame.Invoke{
		RequestID: "01JB4P1M3W6E0B1V9T7ZJX5YQK", Attempt: 1, Remaining: 30 * time.Second, App: "default", Function: "bench",
		Version: 1, Node: "1f0c5d2e-33f1-4a55-8f0e-0d5f3e9f1c11", ContentType: "application/json",
	}
	answer, err := b.session.Call(tb.Context(), frame.InvokeCall, &head, []byte(`{"name":"quail"}`))
	if err != nil {
		tb.Fatal(err)
	}
	if answer.Type != frame.ResultReply {
		tb.Fatalf("%s %q", answer.Type, answer.Body)
	}
	answer.Release()
}

// median reports the middle of what was measured.
func median(b *testing.B, name string, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e6, name)
}

// BenchmarkBlankStart measures from the start of a process to its HELLO, against the bare interpreter.
func BenchmarkBlankStart(b *testing.B) {
	dir := install(b)
	var blanks, bare []time.Duration
	for b.Loop() {
		began := time.Now()
		p := startBlank(b, dir)
		<-p.hello
		blanks = append(blanks, time.Since(began))
		p.stop()
		began = time.Now()
		if err := exec.Command(interpreter, "-I", "-S", "-c", "pass").Run(); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(began))
	}
	median(b, "blank-ms", blanks)
	median(b, "bare-ms", bare)
}

// BenchmarkBecome measures from SETUP to READY and to the answer of a call that was sent with it.
func BenchmarkBecome(b *testing.B) {
	dir := install(b)
	for _, handler := range []string{"main.handler", "main.coroutine"} {
		for _, prepared := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/prepared=%v", handler, prepared), func(b *testing.B) {
				cache := ""
				if prepared {
					cache = prepare(b, dir, "testdata/bench")
				}
				var ready, answered, warm []time.Duration
				for b.Loop() {
					p := startBlank(b, dir)
					<-p.hello
					began := time.Now()
					p.become(b, handler, cache, 1)
					p.call(b)
					answered = append(answered, time.Since(began))
					began = time.Now()
					p.call(b)
					warm = append(warm, time.Since(began))
					p.stop()
					p = startBlank(b, dir)
					<-p.hello
					began = time.Now()
					p.become(b, handler, cache, 1)
					<-p.ready
					ready = append(ready, time.Since(began))
					p.stop()
				}
				median(b, "ready-ms", ready)
				median(b, "answer-ms", answered)
				median(b, "second-ms", warm)
			})
		}
	}
}

// BenchmarkCall measures warm calls, one after the other and 16 at a time.
func BenchmarkCall(b *testing.B) {
	dir := install(b)
	for _, handler := range []string{"main.handler", "main.echo", "main.coroutine"} {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/callers=%d", handler, callers), func(b *testing.B) {
				p := startBlank(b, dir)
				defer p.stop()
				p.become(b, handler, "", callers)
				p.call(b)
				b.SetParallelism(callers)
				if callers == 1 {
					for b.Loop() {
						p.call(b)
					}
					return
				}
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						p.call(b)
					}
				})
			})
		}
	}
}

// BenchmarkMemory reports the proportional size of one of eight blanks, and of bare interpreters beside them.
func BenchmarkMemory(b *testing.B) {
	dir := install(b)
	for b.Loop() {
		var blanks, bare []*exec.Cmd
		for range 8 {
			p := startBlank(b, dir)
			<-p.hello
			defer p.stop()
			blanks = append(blanks, p.cmd)
		}
		b.ReportMetric(pss(b, blanks), "blank-MB")
		for range 8 {
			cmd := exec.Command(interpreter, "-I", "-S", "-c", "print(flush=True); input()")
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			defer cmd.Wait()
			defer in.Close()
			if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
			bare = append(bare, cmd)
		}
		b.ReportMetric(pss(b, bare), "bare-MB")
	}
}

// pss is the average proportional set size in megabytes.
func pss(b *testing.B, processes []*exec.Cmd) float64 {
	sum := 0
	for _, p := range processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Process.Pid))
		if err != nil {
			b.Skip(err)
		}
		for line := range strings.Lines(string(text)) {
			var kb int
			if _, err := fmt.Sscanf(line, "Pss: %d kB", &kb); err == nil {
				sum += kb
			}
		}
	}
	return float64(sum) / 1024 / float64(len(processes))
}

// prepare fills a cache folder for the code of a test program, as a node does at deploy time.
func prepare(tb testing.TB, dir, code string) string {
	tb.Helper()
	code, err := filepath.Abs(code)
	if err != nil {
		tb.Fatal(err)
	}
	cache := tb.TempDir()
	p := startBlank(tb, dir)
	defer p.stop()
	setup := frame.Setup{Code: code, Cache: cache, Preparing: true}
	if err := p.session.Send(frame.SetupFrame, nil, setup.AppendTo(nil)); err != nil {
		tb.Fatal(err)
	}
	<-p.session.Done()
	select {
	case <-p.ready:
		tb.Error("a process that only prepares said READY")
	default:
	}
	return cache
}
