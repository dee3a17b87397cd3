package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// fakeLauncher starts instances that are nothing but memory, and fails as told.
type fakeLauncher struct {
	// launched, if set, decides about the n-th start, from 1. It may block.
	onLaunch func(ctx context.Context, n int, f *fakeInstance) error

	mu       sync.Mutex
	started  []*fakeInstance // guarded by mu
	handler  func(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error)
	initTime time.Duration
}

// fakeInstance is process and data plane in one.
type fakeInstance struct {
	l        *fakeLauncher
	n        int
	id       string
	readyErr error
	gone     chan struct{}
	once     sync.Once
	state    sandbox.State
	drains   bool // ends by itself when drained

	mu      sync.Mutex
	memory  int64 // guarded by mu
	running int   // guarded by mu
	most    int   // guarded by mu
	calls   int   // guarded by mu
	killed  bool
	closed  bool
	drained bool
}

func (l *fakeLauncher) launch(ctx context.Context, in *instance) (*launched, error) {
	l.mu.Lock()
	f := &fakeInstance{l: l, n: len(l.started) + 1, id: in.id, gone: make(chan struct{}), memory: 1 << 20, drains: true}
	l.started = append(l.started, f)
	l.mu.Unlock()
	if l.onLaunch != nil {
		if err := l.onLaunch(ctx, f.n, f); err != nil {
			f.exit(sandbox.State{})
			return nil, err
		}
	}
	return &launched{process: fakeProcess{f}, plane: fakePlane{f}, close: func() { f.set(func() { f.closed = true }) }}, nil
}

func (l *fakeLauncher) limitsMemory() bool { return false }

func (l *fakeLauncher) instances() []*fakeInstance {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*fakeInstance(nil), l.started...)
}

// living counts the instances whose process has not ended.
func (l *fakeLauncher) living() (n int) {
	for _, f := range l.instances() {
		select {
		case <-f.gone:
		default:
			n++
		}
	}
	return n
}

// calls at once in the instance, at most.
func (f *fakeInstance) crowd() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

func (f *fakeInstance) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// exit ends the process as its own code would.
func (f *fakeInstance) exit(state sandbox.State) {
	f.once.Do(func() {
		state.Exited = true
		f.set(func() { f.state = state })
		close(f.gone)
	})
}

type fakeProcess struct{ *fakeInstance }

func (p fakeProcess) Pid() int               { return 1000 + p.n }
func (p fakeProcess) Done() <-chan struct{}  { return p.gone }
func (p fakeProcess) Peak() int64            { return p.memory }
func (p fakeProcess) CPUTime() time.Duration { return 0 }

func (p fakeProcess) State() sandbox.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p fakeProcess) Memory() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memory, nil
}

func (p fakeProcess) Kill() {
	p.set(func() { p.killed = true })
	p.exit(sandbox.State{Code: -1, Signal: syscall.SIGKILL})
}

type fakePlane struct{ *fakeInstance }

func (p fakePlane) Done() <-chan struct{} { return p.gone }
func (p fakePlane) Close() error          { return nil }

func (p fakePlane) Drain() error {
	p.set(func() { p.drained = true })
	if p.drains {
		p.exit(sandbox.State{})
	}
	return nil
}

func (p fakePlane) Ready(ctx context.Context) (plugins.Hello, error) {
	died := notStarted(&plugins.ExitError{Cause: plugins.ErrClosed})
	select {
	case <-p.gone:
		return plugins.Hello{}, died
	default:
	}
	timer := time.NewTimer(p.l.initTime)
	defer timer.Stop()
	select {
	case <-timer.C:
		return plugins.Hello{}, p.readyErr
	case <-p.gone:
		return plugins.Hello{}, died
	case <-ctx.Done():
		return plugins.Hello{}, fmt.Errorf("wait for READY: %w", context.Cause(ctx))
	}
}

func notStarted(err error) error { return fmt.Errorf("%w: %w", err, plugins.ErrNotStarted) }

// Invoke runs the handler, and loses the call when the process ends first.
func (p fakePlane) Invoke(ctx context.Context, call *plugins.Call) (*plugins.Reply, error) {
	select {
	case <-p.gone:
		return nil, notStarted(&plugins.ExitError{Cause: plugins.ErrClosed})
	default:
	}
	p.set(func() { p.calls++; p.running++; p.most = max(p.most, p.running) })
	settled := make(chan struct{})
	type result struct {
		reply *plugins.Reply
		err   error
	}
	// The handler may go on after its caller has left, as in a real process.
	results := make(chan result, 1)
	inner, cancel := context.WithCancel(ctx)
	copied := *call
	go func() {
		defer cancel()
		reply, err := p.l.handler(inner, p.fakeInstance, &copied)
		p.set(func() { p.running-- })
		results <- result{reply, err}
		close(settled)
	}()
	select {
	case r := <-results:
		return r.reply, r.err
	case <-p.gone:
		cancel()
		return nil, &plugins.ExitError{Cause: plugins.ErrClosed}
	case <-ctx.Done():
		return nil, canceledCall{ctx.Err(), settled}
	}
}

// canceledCall is what the data plane answers to a caller that gave up.
type canceledCall struct {
	error
	settled <-chan struct{}
}

func (c canceledCall) Unwrap() error            { return c.error }
func (c canceledCall) Settled() <-chan struct{} { return c.settled }

// echo answers with the call's body.
func echo(_ context.Context, _ *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
	return &plugins.Reply{Body: call.Body, Result: frame.Result{ContentType: call.ContentType}}, nil
}

// rig is an executor that runs on fakes.
type rig struct {
	*Executor
	l      *fakeLauncher
	cancel context.CancelFunc
	ended  chan error
}

func testConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	cfg.Node = "node-1"
	cfg.Memory = 64 << 30
	cfg.Starts = 1000
	cfg.Registerer = prometheus.NewRegistry()
	cfg.Logger = zerolog.Nop()
	return cfg
}

// newRig starts an executor; stop ends it and fails the test if it leaves
// something behind.
func newRig(t testing.TB, change func(*Config, *fakeLauncher)) *rig {
	t.Helper()
	cfg, l := testConfig(t), &fakeLauncher{handler: echo}
	if change != nil {
		change(&cfg, l)
	}
	e, err := newExecutor(cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	return startRig(t, e, l)
}

func startRig(t testing.TB, e *Executor, l *fakeLauncher) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{Executor: e, l: l, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- e.Run(ctx) }()
	for phase(e.phase.Load()) != phaseRunning {
		synctest.Wait()
	}
	return r
}

func (r *rig) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Errorf("Run returned %v", err)
	}
	if n := r.l.living(); n != 0 {
		t.Errorf("%d instances outlived Run", n)
	}
	if n := r.memory.inUse(); n != 0 {
		t.Errorf("%d bytes are still reserved after Run", n)
	}
	for _, p := range *r.pools.Load() {
		if l := p.load(); l.Instances+l.Starting+l.InFlight+l.Queued+l.Free != 0 {
			t.Errorf("%s has a load of %+v after Run", p.key, l)
		}
	}
}

// onFakes runs a test on fakes and a fake clock.
func onFakes(t *testing.T, change func(*Config, *fakeLauncher), test func(t *testing.T, r *rig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change)
		test(t, r)
		r.stop(t)
	})
}

func testSpec(change ...func(*Spec)) *Spec {
	s := &Spec{
		Key: Key{App: "default", Function: "hello", Version: 1}, Runtime: "go", Digest: "d1", Memory: 128 << 20,
		Timeout: 30 * time.Second, IdleTTL: 10 * time.Minute, Concurrency: 1, Queue: 128,
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func request(id string) *Request { return &Request{ID: id, Body: []byte(id)} }

// call invokes and checks that the answer is the request's own.
func (r *rig) call(ctx context.Context, spec *Spec, id string) error {
	resp, err := r.Invoke(ctx, spec, request(id))
	if err != nil {
		return err
	}
	defer resp.Release()
	if string(resp.Body) != id {
		return fmt.Errorf("answer to %s is %q", id, resp.Body)
	}
	return nil
}

// barrier is a handler that holds every call until it is opened.
type barrier struct {
	mu      sync.Mutex
	holding int
	open    chan struct{}
}

func newBarrier() *barrier { return &barrier{open: make(chan struct{})} }

func (b *barrier) handle(ctx context.Context, f *fakeInstance, call *plugins.Call) (*plugins.Reply, error) {
	b.count(1)
	defer b.count(-1)
	select {
	case <-b.open:
		return echo(ctx, f, call)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *barrier) count(d int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding += d
}

func (b *barrier) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holding
}

// fakeStream is a streamed answer under a test's control.
type fakeStream struct {
	io.Reader
	closed  bool
	settled chan struct{}
}

func (s *fakeStream) Close() error             { s.closed = true; return nil }
func (s *fakeStream) Settled() <-chan struct{} { return s.settled }

var errInjected = errors.New("injected fault")
