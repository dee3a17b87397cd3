package frame

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
)

// frames builds a byte stream.
func frames(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case Header:
			b = p.AppendTo(b)
		case string:
			b = append(b, p...)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, p)
		}
	}
	return b
}

// TestBrokenPeerEndsSession feeds what no honest peer sends. Each must end the session with ErrProtocol,
// not with a panic, a hang or a large allocation.
func TestBrokenPeerEndsSession(t *testing.T) {
	t.Parallel()
	cases := map[string][]byte{
		"id zero":                 frames(Header{Type: InvokeCall}),
		"id twice":                frames(Header{Type: InvokeCall, ID: 7, Flags: FlagMore, Length: 8}, uint64(5), Header{Type: InvokeCall, ID: 7}),
		"no length":               frames(Header{Type: InvokeCall, ID: 1, Flags: FlagMore, Length: 2}, "xx"),
		"length zero":             frames(Header{Type: InvokeCall, ID: 1, Flags: FlagMore, Length: 8}, uint64(0)),
		"chunk beyond the length": frames(Header{Type: InvokeCall, ID: 1, Flags: FlagMore, Length: 8}, uint64(2), Header{Type: Chunk, ID: 1, Length: 3}, "xxx"),
		"end before the length":   frames(Header{Type: InvokeCall, ID: 1, Flags: FlagMore, Length: 8}, uint64(5), Header{Type: Chunk, ID: 1, Length: 3, Flags: FlagEnd}, "xxx"),
		"empty chunk":             frames(Header{Type: InvokeCall, ID: 1, Flags: FlagMore, Length: 8}, uint64(5), Header{Type: Chunk, ID: 1}),
		"credit without amount":   frames(Header{Type: Credit, ID: 1}),
		"chunk before its answer": frames(Header{Type: Chunk, ID: 1, Flags: FlagAnswer | FlagEnd}),
		"second answer":           frames(Header{Type: ResultReply, ID: 1, Flags: FlagStream}, Header{Type: ResultReply, ID: 1, Flags: FlagStream}),
		"result inside a stream":  frames(Header{Type: ResultReply, ID: 1, Flags: FlagStream}, Header{Type: ResultReply, ID: 1}),
		"stream beyond its credit": frames(
			Header{Type: ResultReply, ID: 1, Flags: FlagStream}, Header{Type: Chunk, ID: 1, Flags: FlagAnswer, Length: 9}, "123456789"),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, c := sockets(t)
			s := NewSession(a, SessionConfig{Handler: echo, Window: 8})
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				// Call 1 waits for the answers that some of the cases give.
				answer, err := s.Call(t.Context(), InvokeCall, nil, nil)
				if err == nil {
					answer.Release()
				}
			})
			eventually(t, func() error {
				if s.InFlight() == 0 {
					return errors.New("call 1 has not begun")
				}
				return nil
			})
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := s.Run(); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want ErrProtocol", err)
			}
		})
	}
}

// TestLateFramesAreSkipped sends what belongs to calls that are over, which honest peers do too.
func TestLateFramesAreSkipped(t *testing.T) {
	t.Parallel()
	a, c := sockets(t)
	client := run(t, a, SessionConfig{})
	b := frames(
		Header{Type: ResultReply, ID: 90, Length: 2}, "xx",
		Header{Type: ResultReply, ID: 91, Flags: FlagMore, Length: 8}, uint64(5),
		Header{Type: Chunk, ID: 91, Flags: FlagAnswer | FlagEnd, Length: 5}, "xxxxx",
		Header{Type: Chunk, ID: 92, Length: 3, Flags: FlagEnd}, "xxx",
		Header{Type: Cancel, ID: 93}, Header{Type: Credit, ID: 94, Length: 4}, "\x01\x00\x00\x00",
		Header{Type: Drain},
		Header{Type: ResultReply, ID: 1, Length: 4}, "mine",
	)
	var wg sync.WaitGroup
	wg.Go(func() {
		answer, err := client.Call(t.Context(), InvokeCall, nil, nil)
		if err != nil || string(answer.Body) != "mine" {
			t.Errorf("got %q, %v", answer.Body, err)
		}
		answer.Release()
	})
	eventually(t, func() error {
		if client.InFlight() == 0 {
			return errors.New("the call has not begun")
		}
		return nil
	})
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// FuzzSession reads arbitrary bytes as a peer's frames, with one call of our own in flight.
func FuzzSession(f *testing.F) {
	f.Add(frames(Header{Type: InvokeCall, ID: 1, Length: 2, Head: 1}, "hb", Header{Type: Cancel, ID: 1}))
	f.Add(frames(Header{Type: InvokeCall, ID: 1, Flags: FlagMore, Length: 8}, uint64(3), Header{Type: Chunk, ID: 1, Flags: FlagEnd, Length: 3}, "abc"))
	f.Add(frames(Header{Type: ResultReply, ID: 1, Flags: FlagStream}, Header{Type: Chunk, ID: 1, Flags: FlagAnswer | FlagEnd, Length: 1}, "x"))
	f.Add(frames(Header{Type: Hello, Length: 1, Head: 1}, "x", Header{Type: Credit, ID: 1, Length: 4}, "\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		s := NewSession(here, SessionConfig{Handler: echo, MaxBody: 1 << 16, Control: func(Header, []byte) error { return nil }})
		var wg sync.WaitGroup
		wg.Go(func() {
			answer, err := s.Call(t.Context(), InvokeCall, nil, nil)
			if err == nil {
				if answer.Stream != nil {
					_ = answer.Stream.Close()
				}
				answer.Release()
			}
		})
		wg.Go(func() {
			sink := make([]byte, 1<<10)
			for {
				if _, err := there.Read(sink); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			_, _ = there.Write(b)
			_ = there.Close()
		})
		_ = s.Run()
		wg.Wait()
	})
}
