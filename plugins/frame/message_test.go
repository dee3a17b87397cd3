package frame

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// message is what all messages have in common.
type message interface {
	Appender
	Parse([]byte) error
}

// messages returns one full example of each message beside an empty one of its type.
func messages() map[string][2]message {
	attributes := Attributes{{"http.method", "PUT"}, {"", ""}, {"path", strings.Repeat("/x", 100)}}
	return map[string][2]message{
		"invoke": {&Invoke{
			RequestID: "01J0000000000000000000000", Attempt: 2, Remaining: 1500 * time.Millisecond, App: "default", Function: "thumbnail",
			Version: 1 << 40, Node: "n1", ContentType: "image/jpeg", Trace: "00-a-b-01", Depth: 3, Attributes: attributes,
		}, new(Invoke)},
		"result": {&Result{
			ContentType: "text/plain", Status: 418, Attributes: attributes,
			Stats: Stats{Run: time.Second, Init: time.Microsecond, CPU: time.Minute, PeakMemory: 1 << 33},
		}, new(Result)},
		"failure":  {&Failure{Kind: KindUnhandled, Type: "Panic", Message: "boom", Stack: "main.go:1"}, new(Failure)},
		"refusal":  {&Refusal{Code: RefusedBusy, Message: "full", RetryAfter: time.Second}, new(Refusal)},
		"greeting": {&Greeting{Least: 1, Greatest: 2, Window: 1 << 20, MaxBody: 6 << 20, Agent: "test", Attributes: attributes}, new(Greeting)},
		"host request": {&HostRequest{
			RequestID: "r", Op: "invoke", Target: "other:3", ContentType: "a/b", Remaining: time.Second, Attributes: attributes,
		}, new(HostRequest)},
		"setup": {&Setup{
			App: "default", Function: "resize", Version: 7, Handler: "app.handle", Code: "/var/task", Cache: "/var/cache/covey", Memory: 1 << 30,
			Timeout: time.Minute, Concurrency: 4, Preparing: true, Env: attributes,
		}, new(Setup)},
		"host result": {&HostResult{ContentType: "a/b", Attributes: attributes}, new(HostResult)},
	}
}

func TestMessageRoundTrip(t *testing.T) {
	t.Parallel()
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := m[1].Parse(m[0].AppendTo(nil)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m[0], m[1]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMessageGrows is about two versions of one message: what the sender adds is skipped, what it does not
// know yet reads as zero.
func TestMessageGrows(t *testing.T) {
	t.Parallel()
	var got Refusal
	if err := got.Parse(append((&Refusal{Code: "a", Message: "b"}).AppendTo(nil), "more fields"...)); err != nil || got.Code != "a" {
		t.Errorf("with more fields: %+v, %v", got, err)
	}
	got = Refusal{}
	if err := got.Parse(AppendString(nil, "a")); err != nil || got != (Refusal{Code: "a"}) {
		t.Errorf("with fewer fields: %+v, %v", got, err)
	}
}

func TestMessageRefusesCutFields(t *testing.T) {
	t.Parallel()
	cases := map[string][]byte{
		"string":     AppendUint(nil, 5),
		"number":     AppendString(AppendString(nil, "a"), "b")[:3],
		"attributes": AppendUint(AppendString(nil, "type"), 1<<40),
	}
	for name, b := range cases {
		var m HostResult
		if err := m.Parse(append(b, 0x80)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v, want ErrProtocol", name, err)
		}
	}
}

func TestDurationsRoundUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want time.Duration }{
		{0, 0}, {-time.Second, 0}, {1, time.Microsecond}, {1500, 2 * time.Microsecond}, {time.Hour, time.Hour},
	} {
		d := NewDecoder(AppendDuration(nil, c.in))
		if got := d.Duration(); got != c.want {
			t.Errorf("%v became %v, want %v", c.in, got, c.want)
		}
	}
}

func TestFailureFitsOneFrame(t *testing.T) {
	t.Parallel()
	f := Failure{Message: strings.Repeat("m", 1<<20), Stack: strings.Repeat("s", 1<<20)}
	if n := len(f.AppendTo(nil)); n > MaxPayload/2 {
		t.Errorf("a failure takes %d bytes", n)
	}
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		least, greatest uint32
		ok              bool
	}{{1, 1, true}, {0, 9, true}, {2, 9, false}, {0, 0, false}} {
		_, err := (&Greeting{Least: c.least, Greatest: c.greatest}).Negotiate()
		if (err == nil) != c.ok {
			t.Errorf("versions %d to %d: %v", c.least, c.greatest, err)
		}
	}
}

// FuzzMessages feeds every decoder, and checks that what one accepts means the same after another trip.
func FuzzMessages(f *testing.F) {
	for _, m := range messages() {
		f.Add(m[0].AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, m := range messages() {
			first := m[1]
			if first.Parse(b) != nil {
				continue
			}
			second := messages()[name][1]
			if err := second.Parse(first.AppendTo(nil)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("%s: (-first +second):\n%s", name, diff)
			}
		}
	})
}
