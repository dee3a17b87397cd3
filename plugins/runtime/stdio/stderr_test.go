package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// logged is the lines that came out, decoded.
func logged(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range bytes.Lines(out.Bytes()) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if stamp, ok := fields["@timestamp"].(string); ok {
			if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
		delete(fields, "@timestamp")
		lines = append(lines, fields)
	}
	return lines
}

func TestLinesAreFiledUnderTheCall(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := NewLog(&out).Stderr("id-1")
	for _, part := range []string{"one\ntw", "o\r\n\n", `{"@message":"three","@level":"warn","n":3,"request_id":"other"}`, "\n{\"a\":1}\nfo", "ur"} {
		if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write returned %d, %v", n, err)
		}
	}
	s.Flush()
	want := []map[string]any{
		{"@message": "one", "request_id": "id-1"},
		{"@message": "two", "request_id": "id-1"},
		{"@message": "three", "@level": "warn", "n": 3.0, "request_id": "id-1"},
		{"@message": `{"a":1}`, "request_id": "id-1"},
		{"@message": "four", "request_id": "id-1"},
	}
	if got := logged(t, &out); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestEndlessLinesAreCut(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := NewLog(&out).Stderr("")
	for range 100 {
		_, _ = s.Write(bytes.Repeat([]byte("x"), 10_000))
	}
	s.Flush()
	total := 0
	for _, line := range logged(t, &out) {
		message, _ := line["@message"].(string)
		if total += len(message); len(message) > maxLine+10_000 {
			t.Errorf("a line of %d bytes", len(message))
		}
	}
	if total != 1_000_000 {
		t.Errorf("got %d bytes, want 1000000", total)
	}
	if n := len(s.Tail()); n > maxTail || n == 0 {
		t.Errorf("the tail has %d bytes", n)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("line\n", 30)
	for _, c := range []struct {
		name, written string
		want          covey.Error
		lines         int // how many are logged
	}{
		{"nothing", "", covey.Error{Type: "T", Message: "what", Unhandled: true}, 0},
		{"text", "a\nb\n", covey.Error{Type: "T", Message: "what: a\nb", Stack: "a\nb", Unhandled: true}, 2},
		{"much text", many, covey.Error{
			Type: "T", Message: "what: " + strings.TrimSpace(strings.Repeat("line\n", tailLines)), Stack: strings.TrimSpace(many), Unhandled: true,
		}, 30},
		{"typed", "a\n" + `{"errorType":"NotFound","errorMessage":"no"}` + "\n", covey.Error{Type: "NotFound", Message: "no"}, 1},
		{"typed without a line end", `{"errorType":"NotFound","stackTrace":["x","y"]}`, covey.Error{Type: "NotFound", Stack: "x\ny"}, 0},
		{"typed with a text as stack", `{"errorType":"NotFound","stackTrace":"x"}`, covey.Error{Type: "NotFound", Stack: "x"}, 0},
		{"typed, but not last", `{"errorType":"NotFound"}` + "\nb", covey.Error{
			Type: "T", Message: "what: {\"errorType\":\"NotFound\"}\nb", Stack: "{\"errorType\":\"NotFound\"}\nb", Unhandled: true,
		}, 2},
		{"JSON of another kind", `{"level":"error"}`, covey.Error{Type: "T", Message: `what: {"level":"error"}`, Stack: `{"level":"error"}`, Unhandled: true}, 1},
	} {
		var out bytes.Buffer
		s := NewLog(&out).Stderr("id")
		_, _ = s.Write([]byte(c.written))
		if got := s.Failure("T", "what"); *got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, *got, c.want)
		}
		if lines := logged(t, &out); len(lines) != c.lines {
			t.Errorf("%s: got %d lines, want %d: %v", c.name, len(lines), c.lines, lines)
		}
	}
}

// TestErrorsCanBeHandedOn encodes an error of a host call and reads it as a program's.
func TestErrorsCanBeHandedOn(t *testing.T) {
	t.Parallel()
	s := NewLog(new(bytes.Buffer)).Stderr("")
	_, _ = s.Write(Encode(fmt.Errorf("invoke x: %w", &covey.Error{Type: "NotFound", Message: "no", Stack: "a\nb"})))
	if got, want := s.Failure("", ""), (covey.Error{Type: "NotFound", Message: "no", Stack: "a\nb"}); *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	if got := string(Encode(errors.New("gone"))); !strings.Contains(got, `"errorType":"HostCallFailed"`) || !strings.Contains(got, "gone") {
		t.Errorf("got %s", got)
	}
}

func TestEnvironmentDescribesTheCall(t *testing.T) {
	t.Parallel()
	base := Base([]string{"PATH=/bin", "COVEY_PLUGIN=1", "PLUGIN_X=1", "HOME=/old"}, &covey.Setup{
		Env: frame.Attributes{{Name: "HOME", Value: "/new"}, {Name: "HIDDEN", Value: "1"}, {Name: "EMPTY"}},
	}, "HIDDEN")
	if want := []string{"PATH=/bin", "HOME=/new", "EMPTY="}; !slices.Equal(base, want) {
		t.Errorf("got the base %q, want %q", base, want)
	}
	env := Environment(base, covey.Invocation{
		RequestID: "id", Attempt: 2, App: "a", Function: "f", Version: 3, Deadline: time.UnixMilli(1234),
		Attributes: map[string]string{"http-header-x": "1", "zero": "a\x00b"},
	})
	for _, want := range []string{
		"HOME=/new", "COVEY_REQUEST_ID=id", "COVEY_ATTEMPT=2", "COVEY_APP=a", "COVEY_FUNCTION=f", "COVEY_VERSION=3",
		"COVEY_DEADLINE_MS=1234", "COVEY_ATTR_HTTP_HEADER_X=1", `COVEY_ATTRIBUTES={"http-header-x":"1","zero":"a\u0000b"}`,
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%q is missing in %q", want, env)
		}
	}
	if len(env) != len(base)+8 {
		t.Errorf("got %q, with variables that say nothing", env)
	}
}
