package python_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
)

// TestCrowd has many callers do everything at once: small and large bodies, streams that are read or given up, host
// calls, failures, and calls that are cancelled while they run.
func TestCrowd(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"mixed.handler", "mixed.coroutine"} {
		for _, concurrency := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s/%d", handler, concurrency), func(t *testing.T) {
				t.Parallel()
				f := become(t, handler, otherFunctionOnce, func(s *plugins.Setup) { s.Concurrency = uint32(concurrency) })
				var wg sync.WaitGroup
				for caller := range concurrency {
					wg.Go(func() {
						random := rand.New(rand.NewPCG(uint64(caller), 7))
						for n := range 150 {
							if err := f.mixed(random); err != nil {
								t.Errorf("caller %d, call %d: %v", caller, n, err)
								return
							}
						}
					})
				}
				wg.Wait()
				f.drain()
				if code, _ := f.ended(); code != 0 {
					t.Errorf("exit status %d", code)
				}
			})
		}
	}
}

// mixed makes one call of any kind and checks what comes back.
func (f *function) mixed(random *rand.Rand) error {
	data := strings.Repeat("egg ", 1<<random.IntN(16))
	input := map[string]any{"op": [...]string{"echo", "echo", "stream", "host", "fail", "wait"}[random.IntN(6)], "data": data, "n": 3}
	body, err := json.Marshal(input)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if input["op"] == "wait" {
		defer time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, cancel).Stop()
	}
	answer, err := f.conn.Invoke(ctx, &plugins.Call{Body: body})
	var function *plugins.FunctionError
	var cancelled *plugins.CanceledError
	switch {
	case input["op"] == "fail" && errors.As(err, &function) && function.Type == "Asked":
		return nil
	case input["op"] == "wait" && ctx.Err() == context.Canceled && errors.As(err, &cancelled):
		select {
		case <-cancelled.Settled():
			return nil
		case <-time.After(patience):
			return errors.New("the call was cancelled and never ended")
		}
	case input["op"] == "wait" && errors.Is(err, context.Canceled):
		return nil // Before it was sent.
	case err != nil:
		return fmt.Errorf("%s of %d bytes: %w", input["op"], len(data), err)
	}
	defer answer.Release()
	want := map[any]string{"echo": `{"data":"` + data + `"}`, "stream": data + data + data, "host": data}[input["op"]]
	got := string(answer.Body)
	if answer.Stream != nil {
		defer answer.Stream.Close()
		if random.IntN(2) == 0 {
			_ = answer.Stream.Close()
			if settled, ok := answer.Stream.(interface{ Settled() <-chan struct{} }); ok && settled.Settled() != nil {
				<-settled.Settled()
			}
			return nil
		}
		b, err := io.ReadAll(answer.Stream)
		if err != nil {
			return err
		}
		got = string(b)
	}
	if got != want {
		return fmt.Errorf("%s: got %.50q of %d bytes, want %d", input["op"], got, len(got), len(want))
	}
	return nil
}
