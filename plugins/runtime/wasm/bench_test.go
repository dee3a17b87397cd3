package wasm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// hashCode is the folder of the example hash, a small module.
const hashCode = "../../examples/hash-wasm"

// blank starts a runtime's process and waits until it waits.
func blank(b *testing.B, kind string) (*plugins.Conn, *exec.Cmd) {
	b.Helper()
	local, remote, err := plugins.Pair()
	if err != nil {
		b.Fatal(err)
	}
	defer remote.Close()
	cmd := exec.Command(os.Args[0])
	handshake := plugins.Handshake()
	// In a sandbox it is in memory.
	private, err := os.MkdirTemp("/dev/shm", "wasm")
	if err != nil {
		private = b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(private) })
	cmd.Env = []string{envBeRuntime + "=" + kind, "TMPDIR=" + private, handshake.MagicCookieKey + "=" + handshake.MagicCookieValue}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{remote}, os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	// Nothing tells that it waits; this is much longer than it takes.
	<-time.After(150 * time.Millisecond)
	return plugins.NewConn(local, plugins.ConnConfig{}), cmd
}

func end(conn *plugins.Conn, cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = conn.Close()
	_ = cmd.Wait()
}

// BenchmarkSetupToFirstAnswer is a cold start but for the process: what is left of one when a blank process waits.
func BenchmarkSetupToFirstAnswer(b *testing.B) {
	for _, c := range []struct {
		name, kind, code, event string
		cached                  bool
	}{
		{"floor", "floor", hashCode, "x", false},
		{"small/cached", "1", hashCode, "x", true},
		{"small/uncached", "1", hashCode, "x", false},
		{"go/cached", "1", "", `{"op":"echo"}`, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := plugins.Setup{Code: c.code, Concurrency: 1, Timeout: time.Minute}
			if c.code == "" {
				s.Code = conformance(b)
			}
			if c.cached {
				s.Cache = filepath.Join(b.TempDir(), "cache")
				prepare(b, s.Code, s.Cache)
			}
			var times []time.Duration
			for range b.N {
				b.StopTimer()
				conn, cmd := blank(b, c.kind)
				b.StartTimer()
				begin := time.Now()
				if err := conn.Setup(&s); err != nil {
					b.Fatal(err)
				}
				reply, err := conn.Invoke(b.Context(), &plugins.Call{Body: []byte(c.event)})
				times = append(times, time.Since(begin))
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				reply.Release()
				end(conn, cmd)
				b.StartTimer()
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
		})
	}
}

// BenchmarkWarm is calls to a process that serves.
func BenchmarkWarm(b *testing.B) {
	for _, c := range []struct{ name, kind, code, event string }{
		{"floor", "floor", hashCode, "x"},
		{"small", "1", hashCode, "x"},
		{"go", "1", "", `{"op":"echo"}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.code == "" {
				c.code = conformance(b)
			}
			conn, cmd := blank(b, c.kind)
			defer end(conn, cmd)
			if err := conn.Setup(&plugins.Setup{Code: c.code, Concurrency: 1, Timeout: time.Minute}); err != nil {
				b.Fatal(err)
			}
			ask := func() {
				reply, err := conn.Invoke(b.Context(), &plugins.Call{Body: []byte(c.event)})
				if err != nil {
					b.Fatal(err)
				}
				reply.Release()
			}
			ask() // compiles
			for b.Loop() {
				ask()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// BenchmarkHash hashes a megabyte in the module, with its checkpoints and without them.
func BenchmarkHash(b *testing.B) {
	event := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, name := range []string{"checked", "unchecked"} {
		b.Run(name, func(b *testing.B) {
			h := newHost(b)
			handler, err := h.become(context.Background(), &covey.Setup{Code: hashCode})
			if err != nil {
				b.Fatal(err)
			}
			if name == "unchecked" {
				binary, err := os.ReadFile(filepath.Join(hashCode, "hash.wasm"))
				if err != nil {
					b.Fatal(err)
				}
				if h.module.compiled, err = h.engine.compile(context.Background(), binary); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(event)))
			for b.Loop() {
				if _, err := handler(b.Context(), event, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCall is a call inside the process.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct{ name, code, event string }{{"small", hashCode, "x"}, {"go", "", `{"op":"echo"}`}} {
		b.Run(c.name, func(b *testing.B) {
			if c.code == "" {
				c.code = conformance(b)
			}
			handler, err := newHost(b).become(context.Background(), &covey.Setup{Code: c.code})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := handler(b.Context(), []byte(c.event), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
