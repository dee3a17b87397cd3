package frame

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// unsettled fails the test if the channel is closed already.
func unsettled(t *testing.T, settled <-chan struct{}) {
	t.Helper()
	select {
	case <-settled:
		t.Error("settled before the handler returned")
	default:
	}
}

func settledSoon(t *testing.T, settled <-chan struct{}) {
	t.Helper()
	select {
	case <-settled:
	case <-time.After(time.Minute):
		t.Error("not settled")
	}
}

func TestCancelledCallSettlesWhenItsHandlerReturns(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		end  func(in *Incoming)
	}{
		{"answer", func(in *Incoming) { _ = in.Answer(ResultReply, nil, []byte("late")) }},
		{"long answer", func(in *Incoming) { _ = in.Answer(ResultReply, nil, make([]byte, 3<<20)) }},
		{"failure", func(in *Incoming) { _ = in.Fail(nil, &Failure{Message: "cancelled"}) }},
		{"stream", func(in *Incoming) {
			if w, err := in.Stream(ResultReply, nil); err == nil {
				_ = w.Close()
			}
		}},
		{"nothing", func(*Incoming) {}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			started, stop := make(chan struct{}), make(chan struct{})
			client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
				close(started)
				<-stop
				c.end(in)
			}})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-started; cancel() }()
			_, err := client.Call(ctx, InvokeCall, nil, nil)
			var canceled *CanceledError
			if !errors.As(err, &canceled) || !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			unsettled(t, canceled.Settled())
			close(stop)
			settledSoon(t, canceled.Settled())
			client.mu.Lock()
			defer client.mu.Unlock()
			if n := len(client.left); n != 0 {
				t.Errorf("%d calls are remembered for ever", n)
			}
		})
	}
}

func TestCancelledCallSettlesWithItsSession(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	client, server := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		close(started)
		<-in.s.Done()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	_, err := client.Call(ctx, InvokeCall, nil, nil)
	var canceled *CanceledError
	if !errors.As(err, &canceled) {
		t.Fatalf("got %v", err)
	}
	unsettled(t, canceled.Settled())
	_ = server.Close()
	settledSoon(t, canceled.Settled())
}

func TestClosedStreamSettlesWhenItsHandlerReturns(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	client, _ := pair(t, SessionConfig{}, SessionConfig{Handler: func(in *Incoming) {
		w, err := in.Stream(ResultReply, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write([]byte("first"))
		<-stop
		_ = w.Fail(&Failure{Message: "cancelled"})
	}})
	answer, err := client.Call(t.Context(), InvokeCall, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(answer.Stream, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := answer.Stream.Close(); err != nil {
		t.Fatal(err)
	}
	settled := answer.Stream.(*streamReader).Settled()
	unsettled(t, settled)
	close(stop)
	settledSoon(t, settled)
	answer.Release()
}

// TestStreamEndsWhileItsReaderLeaves has the end of a stream looked up before its reader left and handled after.
func TestStreamEndsWhileItsReaderLeaves(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s := NewSession(near, SessionConfig{})
	c, err := s.register()
	if err != nil {
		t.Fatal(err)
	}
	c.stream = newStreamReader(s, c.id)
	settled := s.leave(c.id)
	unsettled(t, settled)
	if err := s.readStreamChunk(c, Header{Type: Chunk, Flags: FlagAnswer | FlagEnd, ID: c.id}); err != nil {
		t.Fatal(err)
	}
	settledSoon(t, settled)
}
