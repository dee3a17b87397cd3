package frame

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
)

// streaming answers with n bytes in pieces of the given size, then fails if it should.
func streaming(n, piece int, failure *Failure) func(*Incoming) {
	return func(in *Incoming) {
		w, err := in.Stream(ResultReply, Raw("head"))
		if err != nil {
			return
		}
		for n := n; n > 0; n -= piece {
			if _, err := w.Write(bytes.Repeat([]byte("s"), min(piece, n))); err != nil {
				return
			}
		}
		if failure != nil {
			_ = w.Fail(failure)
		}
	}
}

func callStream(t *testing.T, s *Session) Answer {
	t.Helper()
	answer, err := s.Call(t.Context(), InvokeCall, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Stream == nil {
		t.Fatalf("got %s %q, want a stream", answer.Type, answer.Body)
	}
	t.Cleanup(func() {
		_ = answer.Stream.Close()
		answer.Release()
	})
	return answer
}

func TestStreamArrivesWhole(t *testing.T) {
	t.Parallel()
	const window = 64 << 10
	for _, size := range []int{0, 1, window, 10*window + 1} {
		for _, piece := range []int{1000, 3 * window} {
			client, server := pair(t, SessionConfig{Window: window}, SessionConfig{Handler: streaming(size, piece, nil)})
			server.SetPeerWindow(window)
			answer := callStream(t, client)
			got, err := io.ReadAll(answer.Stream)
			if err != nil || len(got) != size || string(answer.Head) != "head" {
				t.Errorf("%d bytes in pieces of %d: got %d, %v", size, piece, len(got), err)
			}
		}
	}
}

// TestStreamWaitsForReader checks that the writer sends no more than the window before something is read.
func TestStreamWaitsForReader(t *testing.T) {
	t.Parallel()
	const window = 64 << 10
	var mu sync.Mutex
	written := 0
	client, server := pair(t, SessionConfig{Window: window}, SessionConfig{Handler: func(in *Incoming) {
		w, _ := in.Stream(ResultReply, nil)
		for range 100 {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
			mu.Lock()
			written += 1 << 10
			mu.Unlock()
		}
	}})
	server.SetPeerWindow(window)
	answer := callStream(t, client)
	stream, ok := answer.Stream.(*streamReader)
	if !ok {
		t.Fatalf("the stream is a %T", answer.Stream)
	}
	eventually(t, func() error {
		stream.mu.Lock()
		defer stream.mu.Unlock()
		if stream.queued < window {
			return errors.New("the window is not full yet")
		}
		return nil
	})
	mu.Lock()
	if written > window {
		t.Errorf("%d bytes were written into a window of %d", written, window)
	}
	mu.Unlock()
	if got, err := io.ReadAll(answer.Stream); err != nil || len(got) != 100<<10 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestStreamEndsWithFailure(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: streaming(10, 10, &Failure{Type: "Torn"})})
	got, err := io.ReadAll(callStream(t, client).Stream)
	if f, ok := errors.AsType[*Failure](err); !ok || f.Type != "Torn" || len(got) != 10 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestStreamEndsWithSession(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		_, _ = in.Stream(ResultReply, nil)
		_ = in.s.Close()
	}})
	if _, err := io.ReadAll(callStream(t, client).Stream); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// TestClosingStreamCancels checks both ways in which a caller loses interest.
func TestClosingStreamCancels(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "context"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
				w, err := in.Stream(ResultReply, nil)
				for err == nil {
					_, err = w.Write(make([]byte, 1<<10))
				}
				ended <- err
			}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answer, err := client.Call(ctx, InvokeCall, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if how == "close" {
				_ = answer.Stream.Close()
			} else {
				cancel()
			}
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the writer got %v, want context.Canceled", err)
			}
			if how == "context" {
				if _, err := io.ReadAll(answer.Stream); !errors.Is(err, context.Canceled) {
					t.Errorf("the reader got %v, want context.Canceled", err)
				}
			}
			_ = answer.Stream.Close()
			answer.Release()
		})
	}
}

func TestStreamWriterAfterEnd(t *testing.T) {
	t.Parallel()
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		w, _ := in.Stream(ResultReply, nil)
		if _, err := in.Stream(ResultReply, nil); err == nil {
			t.Error("a second stream for one call")
		}
		_ = w.Close()
		_ = w.Close()
		_ = w.Fail(&Failure{})
		if _, err := w.Write([]byte("late")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write after close: %v", err)
		}
	}})
	if got, err := io.ReadAll(callStream(t, client).Stream); err != nil || len(got) != 0 {
		t.Errorf("got %q, %v", got, err)
	}
}
