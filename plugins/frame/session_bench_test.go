package frame

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCall measures one echo over a socket pair with both ends in this process. cpu-µs/op is the
// processor time of both, which is what the design's figures are about.
func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		for _, size := range []int{100, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("callers=%d/bytes=%d", callers, size), func(b *testing.B) {
				benchmarkCall(b, callers, size)
			})
		}
	}
}

func benchmarkCall(b *testing.B, callers, size int) {
	client, _ := pair(b, SessionConfig{Direct: size > directBody}, SessionConfig{Handler: echo, Direct: true})
	head := &Invoke{RequestID: "01J0000000000000000000000", Attempt: 1, App: "default", Function: "echo", Version: 3, Node: "n1"}
	body := make([]byte, size)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := i; n < b.N; n += callers {
				answer, err := client.Call(ctx, InvokeCall, head, body)
				if err != nil {
					b.Error(err)
					return
				}
				answer.Release()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMessage measures encoding and decoding of the usual head.
func BenchmarkMessage(b *testing.B) {
	m := &Invoke{RequestID: "01J0000000000000000000000", Attempt: 1, App: "default", Function: "echo", Version: 3, Node: "n1"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = m.AppendTo(buf[:0])
		var got Invoke
		if err := got.Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTCP measures the same echo over a connection that cannot write without waiting.
func BenchmarkTCP(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	client := run(b, c, SessionConfig{})
	run(b, peer, SessionConfig{Handler: echo})
	body := make([]byte, 100)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			answer, err := client.Call(b.Context(), InvokeCall, nil, body)
			if err != nil {
				b.Error(err)
				return
			}
			answer.Release()
		}
	})
}
