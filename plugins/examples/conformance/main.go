// Command conformance is the Go program that the conformance suite of plugins/plugintest drives.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins/plugintest/program"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

func main() {
	s := &server{met: make(map[int]chan struct{}), waiting: make(map[int]int)}
	if len(os.Args) > 1 && os.Args[1] == program.ArgRuntime {
		covey.ServeRuntime(s.become)
	}
	initialise := covey.OnInit(func(context.Context) error {
		return initialise(os.Getenv(program.EnvInit))
	})
	if os.Getenv(program.EnvStream) != "" {
		covey.ServeStream(s.stream, initialise)
	}
	covey.ServeJSON(s.handle, initialise)
}

// become makes the program the function that it is anyway, to show that a runtime passes the suite too.
func (s *server) become(_ context.Context, setup *covey.Setup) (covey.RuntimeHandler, error) {
	if setup.Preparing {
		return nil, prepare(setup)
	}
	for _, e := range setup.Env {
		if err := os.Setenv(e.Name, e.Value); err != nil {
			return nil, fmt.Errorf("set %s: %w", e.Name, err)
		}
	}
	if err := initialise(setup.Env.Get(program.EnvInit)); err != nil {
		return nil, err
	}
	if setup.Env.Get(program.EnvStream) != "" {
		return func(ctx context.Context, payload []byte, w io.Writer) ([]byte, error) {
			return nil, s.stream(ctx, payload, w)
		}, nil
	}
	return func(ctx context.Context, payload []byte, _ io.Writer) ([]byte, error) {
		var in program.Input
		if err := json.Unmarshal(payload, &in); err != nil {
			return nil, fmt.Errorf("decode input: %w", err)
		}
		out, err := s.handle(ctx, in)
		if err != nil {
			return nil, err
		}
		return json.Marshal(out)
	}, nil
}

// prepare leaves in the cache what the code folder holds.
func prepare(setup *covey.Setup) error {
	entries, err := os.ReadDir(setup.Code)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return os.WriteFile(filepath.Join(setup.Cache, "names"), []byte(strings.Join(names, "\n")), 0o600)
}

func initialise(mode string) error {
	switch mode {
	case program.InitError:
		return covey.Errorf("NoNest", "no nest")
	case program.InitPanic:
		panic("no nest")
	case program.InitExit:
		os.Exit(4)
	}
	return nil
}

// server is the state of one instance.
type server struct {
	cancelled atomic.Int64

	mu      sync.Mutex
	met     map[int]chan struct{} // closed when so many calls are there
	waiting map[int]int
}

// handle runs one operation.
func (s *server) handle(ctx context.Context, in program.Input) (any, error) {
	switch in.Op {
	case program.OpEcho:
		return program.Output{Data: in.Data}, nil
	case program.OpContext:
		return seen(ctx), nil
	case program.OpError:
		return nil, covey.Errorf(in.Type, "%s", in.Data)
	case program.OpPanic:
		panic(in.Data)
	case program.OpExit:
		os.Exit(in.N)
	case program.OpHang:
		select {}
	case program.OpWait:
		<-ctx.Done()
		s.cancelled.Add(1)
		return nil, ctx.Err()
	case program.OpCancelled:
		return program.Output{N: int(s.cancelled.Load())}, nil
	case program.OpHash:
		sum := sha256.Sum256([]byte(in.Data))
		return program.Output{N: len(in.Data), Data: hex.EncodeToString(sum[:])}, nil
	case program.OpProduce:
		return strings.Repeat("x", in.N-2), nil
	case program.OpMeet:
		return program.Output{N: in.N}, s.meet(ctx, in.N)
	case program.OpLog:
		covey.Logger(ctx).Info(in.Data, "field", 1)
		return program.Output{}, nil
	case program.OpEnv:
		return program.Output{Data: os.Getenv(in.Data)}, nil
	case program.OpInvoke:
		return invoke(ctx, in)
	case program.OpAllocate:
		return program.Output{N: allocate(in.N)}, nil
	}
	return nil, covey.Errorf("UnknownOp", "unknown operation %q", in.Op)
}

func seen(ctx context.Context) program.Seen {
	i := covey.FromContext(ctx)
	s := program.Seen{
		RequestID: i.RequestID, App: i.App, Function: i.Function, Version: i.Version, Attempt: i.Attempt, Node: i.Node,
		Trace: i.Trace, ContentType: i.ContentType, Attributes: i.Attributes,
	}
	if deadline, ok := ctx.Deadline(); ok {
		s.RemainingMS = time.Until(deadline).Milliseconds()
	}
	return s
}

// meet waits until n calls are here.
func (s *server) meet(ctx context.Context, n int) error {
	s.mu.Lock()
	if s.met[n] == nil {
		s.met[n] = make(chan struct{})
	}
	met := s.met[n]
	s.waiting[n]++
	if s.waiting[n] == n {
		close(met)
	}
	s.mu.Unlock()
	select {
	case <-met:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func invoke(ctx context.Context, in program.Input) (program.Output, error) {
	output, err := covey.Invoke(ctx, in.Type, []byte(in.Data))
	return program.Output{Data: string(output)}, err
}

// allocate writes to every page, because untouched memory costs nothing.
func allocate(n int) int {
	b := make([]byte, n)
	sum := 0
	for i := 0; i < len(b); i += 4096 {
		b[i] = byte(i>>12) | 1
		sum += int(b[i] & 1)
	}
	if sum != (n+4095)/4096 {
		return 0
	}
	return len(b)
}

// stream runs OpStream, and any other operation with its output in one piece.
func (s *server) stream(ctx context.Context, payload []byte, w io.Writer) error {
	var in program.Input
	if err := json.Unmarshal(payload, &in); err != nil {
		return fmt.Errorf("decode input: %w", err)
	}
	if in.Op != program.OpStream {
		out, err := s.handle(ctx, in)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(out)
	}
	for i := range in.N {
		if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
			return errors.Join(errors.New("write line"), err)
		}
	}
	if in.Type != "" {
		return covey.Errorf(in.Type, "%s", in.Data)
	}
	return nil
}
