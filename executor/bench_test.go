//go:build linux && (amd64 || arm64)

package executor

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

// instantLauncher starts instances that answer at once, so that a benchmark sees
// the executor alone.
type instantLauncher struct{ reply plugins.Reply }

func (l *instantLauncher) launch(context.Context, *instance) (*launched, error) {
	p := &instantInstance{reply: &l.reply, gone: make(chan struct{})}
	return &launched{process: p, plane: p}, nil
}

func (l *instantLauncher) limitsMemory() bool { return true }

type instantInstance struct {
	reply *plugins.Reply
	gone  chan struct{}
	once  sync.Once
}

func (p *instantInstance) Ready(context.Context) (plugins.Hello, error) { return plugins.Hello{}, nil }
func (p *instantInstance) Drain() error                                 { return nil }
func (p *instantInstance) Done() <-chan struct{}                        { return p.gone }
func (p *instantInstance) Close() error                                 { return nil }
func (p *instantInstance) Pid() int                                     { return 1 }
func (p *instantInstance) State() sandbox.State                         { return sandbox.State{} }
func (p *instantInstance) Kill()                                        { p.once.Do(func() { close(p.gone) }) }
func (p *instantInstance) Memory() (int64, error)                       { return 0, nil }
func (p *instantInstance) Peak() int64                                  { return 0 }
func (p *instantInstance) CPUTime() time.Duration                       { return 0 }

func (p *instantInstance) Invoke(context.Context, *plugins.Call) (*plugins.Reply, error) {
	return p.reply, nil
}

// BenchmarkWarmInvoke measures a call of a warm version: what the executor adds
// to a call, and the whole of it on the real echo example.
func BenchmarkWarmInvoke(b *testing.B) {
	b.Run("fake", func(b *testing.B) {
		cfg := testConfig(b)
		e, err := newExecutor(cfg, &instantLauncher{})
		if err != nil {
			b.Fatal(err)
		}
		benchmarkCallers(b, running(b, e), testSpec(), 100)
	})
	b.Run("echo", func(b *testing.B) {
		binary(b, "echo")
		box := newSandbox(b)
		for _, size := range []int{100, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
				e := newReal(b, box, nil)
				benchmarkCallers(b, e, realSpec("echo", func(s *Spec) { s.Concurrency = 64 }), size)
			})
		}
	})
}

// running runs an executor for the length of a benchmark.
func running(b *testing.B, e *Executor) *Executor {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	eventually(b, func() error {
		if phase(e.phase.Load()) != phaseRunning {
			return io.ErrNoProgress
		}
		return nil
	})
	return e
}

func benchmarkCallers(b *testing.B, e *Executor, spec *Spec, size int) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			req := &Request{ID: "01JBENCH0000000000000000", Body: make([]byte, size)}
			call := func() {
				resp, err := e.Invoke(context.Background(), spec, req)
				if err != nil {
					b.Error(err)
					return
				}
				resp.Release()
			}
			call()
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						call()
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkColdStart measures a call that has to start its instance.
func BenchmarkColdStart(b *testing.B) {
	binary(b, "echo")
	e := newReal(b, newSandbox(b), nil)
	req := request("r")
	for version := uint64(1); b.Loop(); version++ {
		spec := realSpec("echo")
		spec.Version = version
		resp, err := e.Invoke(context.Background(), spec, req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Release()
		b.StopTimer()
		(*e.pools.Load())[spec.Key].retire()
		eventually(b, func() error {
			if n := len(e.Instances()); n > 0 {
				return fmt.Errorf("%d instances are left", n)
			}
			return nil
		})
		b.StartTimer()
	}
}
