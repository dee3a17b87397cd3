package frame

import (
	"errors"
	"testing"
)

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	want := Header{Length: MaxPayload, Type: Chunk, Flags: FlagEnd | FlagAnswer, Head: 7, ID: 1<<63 + 5}
	b := want.AppendTo(nil)
	if len(b) != HeaderSize {
		t.Fatalf("header of %d bytes", len(b))
	}
	got, err := ParseHeader(b)
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// TestHeaderBytes pins the layout: other languages implement it.
func TestHeaderBytes(t *testing.T) {
	t.Parallel()
	got := Header{Length: 0x01020304 & MaxPayload, Type: InvokeCall, Flags: FlagMore, Head: 0x0506, ID: 0x0708090a0b0c0d0e}.AppendTo(nil)
	want := [HeaderSize]byte{0, 0, 0, 0, 3, 1, 6, 5, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 9, 8, 7}
	if [HeaderSize]byte(got) != want {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		h    Header
	}{
		{"no type", Header{}},
		{"unknown type", Header{Type: typeEnd}},
		{"long payload", Header{Type: Chunk, Length: MaxPayload + 1}},
		{"head longer than payload", Header{Type: InvokeCall, Length: 3, Head: 4}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := ParseHeader(c.h.AppendTo(nil)); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want ErrProtocol", err)
			}
		})
	}
	if _, err := ParseHeader(make([]byte, HeaderSize-1)); !errors.Is(err, ErrProtocol) {
		t.Errorf("short header: got %v, want ErrProtocol", err)
	}
}

func TestTypeNames(t *testing.T) {
	t.Parallel()
	if got := InvokeCall.String() + " " + Drain.String() + " " + Type(200).String(); got != "INVOKE DRAIN TYPE(200)" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(Header{Type: Hello}.AppendTo(nil))
	f.Add(Header{Type: Chunk, Length: MaxPayload, ID: 1}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if again := h.AppendTo(nil); string(again) != string(b[:HeaderSize]) {
			t.Errorf("% x became % x", b[:HeaderSize], again)
		}
	})
}
