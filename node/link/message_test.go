package link

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

func TestReportGrowsAtItsEnd(t *testing.T) {
	t.Parallel()
	// A newer node appends a field to its report and knows one more flag.
	old := &report{reply: &Reply{Cold: true, Result: frame.Result{ContentType: "text/plain"}}, result: true}
	newer := frame.AppendString(old.appendFields(nil), "a field of the future")
	head := append([]byte{byte(len(newer))}, newer...)
	head = old.reply.Result.AppendTo(head)
	got := report{reply: new(Reply), result: true}
	if err := got.parse(head); err != nil {
		t.Fatal(err)
	}
	if !got.reply.Cold || got.reply.ContentType != "text/plain" {
		t.Errorf("got %+v", got.reply)
	}
}

func TestLogTailIsCutToItsEnd(t *testing.T) {
	t.Parallel()
	long := make([]byte, 2*logTailMax)
	long[len(long)-1] = 'z'
	head := (&report{reply: &Reply{LogTail: long}}).AppendTo(nil)
	got := report{reply: new(Reply)}
	if err := got.parse(head); err != nil {
		t.Fatal(err)
	}
	if n := len(got.reply.LogTail); n != logTailMax || got.reply.LogTail[n-1] != 'z' {
		t.Errorf("log tail has %d bytes", n)
	}
}

func FuzzCallParse(f *testing.F) {
	call := newCall("")
	call.Attributes = frame.Attributes{{Name: "a", Value: "b"}}
	f.Add(call.AppendTo(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, head []byte) {
		var c, again Call
		if c.parse(head) != nil {
			return
		}
		if err := again.parse(c.AppendTo(nil)); err != nil {
			t.Fatalf("own encoding does not parse: %v", err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("call changes when encoded again:\n%s", diff)
		}
	})
}

func FuzzReportParse(f *testing.F) {
	full := &report{result: true, details: frame.Attributes{{Name: "a", Value: "b"}}, reply: &Reply{
		Load: &scheduler.Load{InFlight: 1, Full: true}, Steps: []Step{{"run", time.Second}}, LogTail: []byte("x"),
	}}
	f.Add(full.AppendTo(nil), true)
	f.Add([]byte{0x80, 0x80}, false)
	f.Fuzz(func(t *testing.T, head []byte, result bool) {
		in := report{reply: new(Reply), result: result}
		if in.parse(head) != nil {
			return
		}
		again := report{reply: new(Reply), result: result}
		if err := again.parse(in.AppendTo(nil)); err != nil {
			t.Fatalf("own encoding does not parse: %v", err)
		}
		if again.reply.Usage != in.reply.Usage || !cmp.Equal(again.reply.Load, in.reply.Load) {
			t.Fatalf("report changes when encoded again: %+v, %+v", in.reply, again.reply)
		}
	})
}
