package frame

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestReaderTellsCleanEndFromCut(t *testing.T) {
	t.Parallel()
	whole := append(Header{Type: Chunk, Length: 3, ID: 1}.AppendTo(nil), "abc"...)
	for cut := range len(whole) + 1 {
		r := NewReader(bytes.NewReader(whole[:cut]), new(Pool))
		_, buf, err := r.Next()
		buf.Release()
		switch cut {
		case 0:
			if !errors.Is(err, io.EOF) {
				t.Errorf("empty stream: %v", err)
			}
		case len(whole):
			if err != nil {
				t.Errorf("whole frame: %v", err)
			}
		default:
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut after %d: %v", cut, err)
			}
		}
	}
}

func TestReaderSkipsWhatNobodyTook(t *testing.T) {
	t.Parallel()
	b := append(Header{Type: Chunk, Length: 3, ID: 1}.AppendTo(nil), "abc"...)
	b = append(b, Header{Type: Cancel, ID: 2}.AppendTo(nil)...)
	r := NewReader(bytes.NewReader(b), new(Pool))
	if _, err := r.Header(); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if err := r.Payload(one); err != nil || one[0] != 'a' {
		t.Fatalf("got %q, %v", one, err)
	}
	if err := r.Payload(make([]byte, 3)); !errors.Is(err, ErrProtocol) {
		t.Errorf("more than is left: %v", err)
	}
	if h, err := r.Header(); err != nil || h.ID != 2 {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestPoolReusesByClass(t *testing.T) {
	t.Parallel()
	var p Pool
	for _, n := range []int{0, 1, 512, 513, 1 << 20, 8 << 20, 8<<20 + 1} {
		buf := p.Get(n)
		if len(buf.Bytes()) != n {
			t.Errorf("Get(%d) gave %d bytes", n, len(buf.Bytes()))
		}
		buf.Release()
	}
	grown := p.empty(1)
	grown.b = append(grown.b, make([]byte, 700)...)
	grown.Release() // Fits no class any more, which must not matter.
	var none *Buffer
	none.Release()
	if none.Bytes() != nil {
		t.Error("a nil buffer has bytes")
	}
}
