//go:build linux && (amd64 || arm64)

package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// newSandbox returns the best sandbox of the machine.
func newSandbox(t testing.TB, change ...func(*sandbox.Config)) *sandbox.Sandbox {
	t.Helper()
	cfg := sandbox.DefaultConfig()
	cfg.DataDir = t.TempDir()
	for _, f := range change {
		f(&cfg)
	}
	cfg.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)
	s, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	return s
}

// newReal runs an executor on real processes; the digest in a spec is the name
// of an example.
func newReal(t testing.TB, box *sandbox.Sandbox, change func(*Config)) *Executor {
	t.Helper()
	cfg := testConfig(t)
	cfg.Starts = DefaultConfig().Starts
	cfg.Sandbox = box
	cfg.Code = func(_ context.Context, digest string) (*os.File, error) {
		path, err := examples.build(digest)
		if err != nil {
			return nil, err
		}
		return os.Open(path)
	}
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	eventually(t, func() error {
		if phase(e.phase.Load()) != phaseRunning {
			return errors.New("not running")
		}
		return nil
	})
	return e
}

// eventually polls until check succeeds.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for err := check(); err != nil; err = check() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up: %v", err)
		}
		<-tick.C
	}
}

func realSpec(name string, change ...func(*Spec)) *Spec {
	s := testSpec(change...)
	s.Function, s.Digest, s.Memory = name, name, 64<<20
	return s
}

// operation makes a request of the conformance program.
func operation(t testing.TB, id string, in program.Input) *Request {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return &Request{ID: id, Body: body}
}

// The fifth point of "Done when" of issue 2, on real processes: the handlers are
// held by a host call that does not answer.
func TestLimitsHoldOnRealProcesses(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	var mu sync.Mutex
	held := 0
	e := newReal(t, newSandbox(t), func(cfg *Config) {
		cfg.Host = func(ctx context.Context, _ Key, _ *plugins.HostCall) (*plugins.HostReply, error) {
			mu.Lock()
			held++
			mu.Unlock()
			select {
			case <-open:
				return &plugins.HostReply{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	binary(t, "conformance")
	spec := realSpec("conformance", func(s *Spec) { s.Max, s.Queue, s.IdleTTL = 8, 64, 2*time.Second })
	ok, full := 0, 0
	var wg sync.WaitGroup
	for i := range 200 {
		req := operation(t, fmt.Sprint("burst-", i), program.Input{Op: program.OpInvoke, Type: "barrier"})
		wg.Go(func() {
			resp, err := e.Invoke(t.Context(), spec, req)
			resp.Release()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ok++
			case errors.Is(err, ErrQueueFull):
				full++
			default:
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	eventually(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if held != 8 || full != 128 {
			return fmt.Errorf("%d calls run and %d were refused, want 8 and 128", held, full)
		}
		return nil
	})
	if l := e.Load(spec.Key); l.Instances != 8 || l.InFlight != 8 || l.Queued != 64 {
		t.Errorf("load while held is %+v", l)
	}
	close(open)
	wg.Wait()
	if ok != 72 {
		t.Errorf("%d calls succeeded, want 72", ok)
	}
	eventually(t, func() error {
		if all := e.Instances(); len(all) > 0 {
			return fmt.Errorf("%d instances are left", len(all))
		}
		return nil
	})
}

func TestTimeoutEndsARealProcess(t *testing.T) {
	t.Parallel()
	e := newReal(t, newSandbox(t), nil)
	binary(t, "conformance")
	spec := realSpec("conformance", func(s *Spec) { s.Timeout = 300 * time.Millisecond })
	done := make(chan int, 1)
	go func() {
		defer close(done)
		for t.Context().Err() == nil {
			if all := e.Instances(); len(all) == 1 && all[0].Pid != 0 {
				done <- all[0].Pid
				return
			}
			<-time.After(time.Millisecond)
		}
	}()
	_, err := e.Invoke(t.Context(), spec, operation(t, "r", program.Input{Op: program.OpHang}))
	if !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	pid := <-done
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %d is there when the timeout is reported: %v", pid, err)
	}
}

func TestRealCrashSaysHow(t *testing.T) {
	t.Parallel()
	e := newReal(t, newSandbox(t), nil)
	binary(t, "conformance")
	spec := realSpec("conformance")
	_, err := e.Invoke(t.Context(), spec, operation(t, "r", program.Input{Op: program.OpExit, N: 7}))
	exit, ok := errors.AsType[*Exit](err)
	if !ok || exit.Code != 7 {
		t.Fatalf("got %v", err)
	}
	var last LogLine
	for line, err := range e.Logs(t.Context(), LogQuery{App: spec.App, Function: spec.Function}) {
		if err != nil {
			t.Fatal(err)
		}
		last = line
	}
	if last.Stream != StreamPlatform || !strings.Contains(last.Message, "code 7") || last.RequestID != "r" {
		t.Errorf("the log ends with %+v", last)
	}
}

// A stopped process keeps its connection; only a question finds it out.
func TestStoppedProcessFailsItsHealthCheck(t *testing.T) {
	t.Parallel()
	e := newReal(t, newSandbox(t), nil)
	binary(t, "echo")
	e.launch.(*processLauncher).health = health{delay: time.Millisecond, every: 20 * time.Millisecond, limit: 200 * time.Millisecond}
	spec := realSpec("echo")
	resp, err := e.Invoke(t.Context(), spec, request("r"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Release()
	// Many questions are answered before.
	healthy := time.After(time.Second)
	<-healthy
	all := e.Instances()
	if len(all) != 1 || all[0].State != StateReady {
		t.Fatalf("a healthy instance did not stay: %+v", all)
	}
	if err := syscall.Kill(all[0].Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if all := e.Instances(); len(all) > 0 {
			return fmt.Errorf("instances %+v are left", all)
		}
		return nil
	})
}
