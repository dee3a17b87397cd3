package lambda_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// settle waits until the process has done what it does before it is needed: until it uses the processor no more.
func (b *blank) settle(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	before := time.Duration(-1)
	for range 200 {
		<-tick.C
		now := processorTime(b.cmd.Process.Pid)
		if now == before {
			return
		}
		before = now
	}
}

// processorTime is what a process has used so far.
func processorTime(pid int) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|2, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// program finds the function's program.
func (b *blank) program(t testing.TB) int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", b.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		var pid int
		if text, err := os.ReadFile(list); err == nil {
			if _, err := fmt.Sscan(string(text), &pid); err == nil {
				return pid
			}
		}
	}
	t.Fatal("the host has no program")
	return 0
}

// programs are the packages that are measured.
func programs(b *testing.B, run func(b *testing.B, code, handler string)) {
	b.Run("go", func(b *testing.B) {
		run(b, build(b, "github.com/covey-dev/covey/plugins/examples/lambda-conformance"), "")
	})
	b.Run("python", func(b *testing.B) {
		need(b, "python3")
		run(b, folder(b, "python"), "lambda_function.lambda_handler")
	})
	b.Run("node", func(b *testing.B) {
		need(b, "node")
		run(b, folder(b, "node"), "index.handler")
	})
}

// BenchmarkWarm is one call after another of 100 bytes: the program's own work is next to nothing.
func BenchmarkWarm(b *testing.B) {
	programs(b, func(b *testing.B, code, handler string) {
		p := startBlank(b)
		if err := p.conn.Setup(setupOf(code, handler)); err != nil {
			b.Fatal(err)
		}
		body := []byte(`{"op":"echo","data":"` + strings.Repeat("x", 77) + `"}`)
		p.invoke(b, "warm-up", body)
		host, program := p.cmd.Process.Pid, p.program(b)
		hostBefore, programBefore := processorTime(host), processorTime(program)
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			p.invoke(b, "8476a536-e9f4-11e8-9739-2dfe598c3fcd", body)
			took = append(took, time.Since(began))
		}
		perCall := func(d time.Duration) float64 { return float64(d) / 1e3 / float64(b.N) }
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2])/1e3, "p50-µs")
		b.ReportMetric(perCall(processorTime(host)-hostBefore), "host-µs/op")
		b.ReportMetric(perCall(processorTime(program)-programBefore), "program-µs/op")
	})
}

// BenchmarkCold is the time from SETUP to the first answer.
func BenchmarkCold(b *testing.B) {
	programs(b, func(b *testing.B, code, handler string) {
		body := []byte(`{"op":"echo","data":"x"}`)
		var took []time.Duration
		for b.Loop() {
			p := startBlank(b)
			p.settle(b)
			began := time.Now()
			if err := p.conn.Setup(setupOf(code, handler)); err != nil {
				b.Fatal(err)
			}
			p.invoke(b, "first", body)
			took = append(took, time.Since(began))
			p.stop()
		}
		reportTimes(b, took)
	})
}

// BenchmarkColdFloor is what the program takes by itself: from its exec to the request for its first event.
func BenchmarkColdFloor(b *testing.B) {
	code := build(b, "github.com/covey-dev/covey/plugins/examples/lambda-conformance")
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	var took []time.Duration
	for b.Loop() {
		cmd := exec.Command(code + "/bootstrap")
		cmd.Env = []string{
			"AWS_LAMBDA_RUNTIME_API=" + listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=f", "AWS_LAMBDA_FUNCTION_VERSION=1",
			"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256", "AWS_LAMBDA_LOG_FORMAT=JSON",
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		c, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = c.Close()
	}
	reportTimes(b, took)
}

// reportTimes reports the median and the least, which other work on the machine disturbs less than the mean.
func reportTimes(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(took[0])/1e6, "min-ms")
}
