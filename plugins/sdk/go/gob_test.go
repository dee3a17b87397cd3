package covey

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"strings"
	"testing"
)

// TestGobAgrees talks both ways with the real package, several values on one stream, as net/rpc does.
func TestGobAgrees(t *testing.T) {
	t.Parallel()
	type Request struct {
		ServiceMethod string
		Seq           uint64
	}
	type Response struct {
		ServiceMethod string
		Seq           uint64
		Error         string
	}
	long := bytes.Repeat([]byte("x"), 100_000)
	var there, back bytes.Buffer
	encoder, decoder := gob.NewEncoder(&there), gob.NewDecoder(&back)
	reader, writer := &gobReader{r: bufio.NewReader(&there)}, &gobWriter{w: &back}
	for i, seq := range []uint64{0, 1, 127, 128, 1 << 40, 1<<64 - 1} {
		for _, argument := range []any{true, "name", long} {
			if err := encoder.Encode(&Request{"Plugin.Invoke", seq}); err != nil {
				t.Fatal(err)
			}
			if err := encoder.Encode(argument); err != nil {
				t.Fatal(err)
			}
			method, got, err := reader.request()
			if err != nil || method != "Plugin.Invoke" || got != seq {
				t.Fatalf("header of call %d: %q, %d, %v", i, method, got, err)
			}
			var b bool
			var s string
			var p []byte
			switch argument.(type) {
			case bool:
				err = reader.argument(&b)
			case string:
				err = reader.argument(&s)
			default:
				err = reader.argument(&p)
			}
			if err != nil || !(b || s == "name" || bytes.Equal(p, long)) {
				t.Fatalf("argument %T of call %d: %v %q %d bytes, %v", argument, i, b, s, len(p), err)
			}
		}
		for _, failure := range []string{"", "broken"} {
			writer.response("Plugin.Invoke", seq, failure)
			var got Response
			if err := writer.flush(); err != nil {
				t.Fatal(err)
			}
			if err := decoder.Decode(&got); err != nil || got != (Response{"Plugin.Invoke", seq, failure}) {
				t.Fatalf("header of answer %d: %+v, %v", i, got, err)
			}
		}
		var empty struct{}
		var id uint32
		var p []byte
		for _, c := range []struct{ from, to any }{{struct{}{}, &empty}, {uint32(1 << 20), &id}, {long, &p}} {
			if err := writer.reply(c.from); err != nil {
				t.Fatal(err)
			}
			if err := writer.flush(); err != nil {
				t.Fatal(err)
			}
			if err := decoder.Decode(c.to); err != nil {
				t.Fatalf("reply %T: %v", c.from, err)
			}
		}
		if id != 1<<20 || !bytes.Equal(p, long) {
			t.Errorf("got %d and %d bytes", id, len(p))
		}
	}
	if err := writer.reply(3.5); err == nil {
		t.Error("encoded a type that the protocol has not")
	}
}

func TestGobRefusesOtherTypes(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	encoder := gob.NewEncoder(&b)
	for range 2 {
		if err := encoder.Encode("text"); err != nil {
			t.Fatal(err)
		}
	}
	r := &gobReader{r: bufio.NewReader(&b)}
	if err := r.argument(new(bool)); err == nil || !strings.Contains(err.Error(), "type 6") {
		t.Errorf("got %v", err)
	}
	if _, _, err := r.request(); err == nil {
		t.Error("a string passed for a header")
	}
}

func FuzzGobReader(f *testing.F) {
	var b bytes.Buffer
	_ = gob.NewEncoder(&b).Encode(&struct {
		ServiceMethod string
		Seq           uint64
	}{"a", 1})
	f.Add(b.Bytes())
	f.Add([]byte("\x06\f\x00\x03str"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		r := &gobReader{r: bufio.NewReader(bytes.NewReader(b))}
		for range 4 {
			if _, _, err := r.request(); err != nil {
				return
			}
			var p []byte
			if err := r.argument(&p); err != nil {
				return
			}
		}
	})
}
