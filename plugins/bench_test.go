package plugins

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// spawn starts bin without tidying up, for benchmarks.
func spawn(b *testing.B, bin, dir string) (*exec.Cmd, *Conn) {
	b.Helper()
	local, remote, err := Pair()
	if err != nil {
		b.Fatal(err)
	}
	defer remote.Close()
	cmd := exec.Command(bin)
	cmd.ExtraFiles = []*os.File{remote}
	handshake := Handshake()
	cmd.Env = []string{handshake.MagicCookieKey + "=" + handshake.MagicCookieValue, SocketDirKey + "=" + dir}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd, NewConn(local, ConnConfig{})
}

func end(b *testing.B, cmd *exec.Cmd, c *Conn) {
	b.Helper()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = c.Close()
}

func buildEcho(b *testing.B) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "echo")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./examples/echo").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// BenchmarkColdStart measures from before the exec to the first reply.
func BenchmarkColdStart(b *testing.B) {
	bin, dir := buildEcho(b), b.TempDir()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		cmd, c := spawn(b, bin, dir)
		reply, err := c.Invoke(b.Context(), &Call{Body: []byte("hi")})
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		reply.Release()
		b.StopTimer()
		end(b, cmd, c)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkInvoke measures warm calls to a real process. cpu-µs/op is the processor time of both processes.
func BenchmarkInvoke(b *testing.B) {
	bin := buildEcho(b)
	for _, callers := range []int{1, 16, 64} {
		for _, size := range []int{100, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("callers=%d/bytes=%d", callers, size), func(b *testing.B) {
				cmd, c := spawn(b, bin, b.TempDir())
				if _, err := c.Ready(b.Context()); err != nil {
					b.Fatal(err)
				}
				own, child := cpuOfSelf(), cpuOf(b, cmd.Process.Pid)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				hammer(b, c, callers, make([]byte, size))
				b.StopTimer()
				spent := cpuOfSelf() - own + cpuOf(b, cmd.Process.Pid) - child
				b.ReportMetric(float64(spent.Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
				end(b, cmd, c)
			})
		}
	}
}

// hammer runs b.N calls from a number of callers.
func hammer(b *testing.B, c *Conn, callers int, body []byte) {
	b.Helper()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			call := &Call{Body: body}
			call.RequestID, call.App, call.Function, call.Attempt = "01J0000000000000000000000", "default", "echo", 1
			for n := i; n < b.N; n += callers {
				reply, err := c.Invoke(b.Context(), call)
				if err != nil {
					b.Error(err)
					return
				}
				reply.Release()
			}
		})
	}
	wg.Wait()
}

func cpuOfSelf() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOf reads what the scheduler counted for every thread of a process.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		b.Skipf("no schedstat of process %d", pid)
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // The thread has ended.
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}
