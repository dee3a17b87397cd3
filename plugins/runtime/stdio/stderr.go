package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	// maxLine is where a line without an end is cut.
	maxLine = 64 << 10
	// maxTail is how much of the last output an error carries as its stack, and tailLines how many lines of
	// it as its message.
	maxTail   = 16 << 10
	tailLines = 20
)

// Log is where log lines go: standard error of the process, in most cases. Its methods are safe for concurrent use.
type Log struct {
	mu sync.Mutex
	w  io.Writer
}

// NewLog returns a Log that gives w one line with each Write.
func NewLog(w io.Writer) *Log { return &Log{w: w} }

// Stderr takes what a program writes to standard error during one call. Each line becomes a log line of the call. A line
// in the format of go-plugin's logs (a JSON object with "@message") keeps its level and fields. The last line is kept
// back until it is known how the call ended, because it may be a typed error; see [Stderr.Failure].
type Stderr struct {
	log       *Log
	requestID string
	line      []byte // the line that has not ended yet
	last      []byte // the last whole line, not logged yet
	tail      []byte
}

var _ io.Writer = (*Stderr)(nil)

// Stderr returns the standard error of the call with that request id; with none, of the program outside of calls.
func (l *Log) Stderr(requestID string) *Stderr { return &Stderr{log: l, requestID: requestID} }

// Write never fails: what cannot be logged is lost.
func (s *Stderr) Write(p []byte) (int, error) {
	n := len(p)
	s.keep(p)
	for {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		s.line = append(s.line, line...)
		if !found && len(s.line) < maxLine {
			return n, nil
		}
		s.flush()
		s.last = append(s.last[:0], s.line...)
		s.line = s.line[:0]
		p = rest
	}
}

// keep appends to the tail and forgets its beginning.
func (s *Stderr) keep(p []byte) {
	s.tail = append(s.tail, p...)
	if len(s.tail) <= 2*maxTail {
		return
	}
	s.tail = append(s.tail[:0], s.tail[len(s.tail)-maxTail:]...)
}

// flush logs the line that was kept back.
func (s *Stderr) flush() {
	if len(bytes.TrimSpace(s.last)) > 0 {
		s.log.write(s.last, s.requestID)
	}
	s.last = s.last[:0]
}

// Flush logs what was kept back. It ends a call that succeeded.
func (s *Stderr) Flush() {
	s.flush()
	s.last, s.line = s.line, nil
	s.flush()
}

// typedError is a failure in the words of the program: its last line, as a JSON object.
type typedError struct {
	Type    string          `json:"errorType"`
	Message string          `json:"errorMessage"`
	Stack   json.RawMessage `json:"stackTrace"` // a string, or a list of lines
}

// Failure ends a call whose program failed, and returns the error. If the last line is a JSON object with
// "errorType" and "errorMessage" (and perhaps "stackTrace", a string or a list of lines), that is the error and
// not logged. Otherwise the program fell over something: the error is unhandled, of type typ; its message is
// what, and the last lines after it.
func (s *Stderr) Failure(typ, what string) *covey.Error {
	if len(s.line) > 0 {
		s.flush()
		s.last, s.line = s.line, nil
	}
	if e := parseTyped(s.last); e != nil {
		s.last = nil
		return e
	}
	s.Flush()
	e := &covey.Error{Type: typ, Message: what, Unhandled: true, Stack: s.Tail()}
	if lines := lastLines(e.Stack, tailLines); lines != "" {
		e.Message += ": " + lines
	}
	return e
}

// Tail returns the last output, whole lines as far as possible.
func (s *Stderr) Tail() string {
	tail := s.tail
	if len(tail) > maxTail {
		tail = tail[len(tail)-maxTail:]
		if i := bytes.IndexByte(tail, '\n'); i >= 0 {
			tail = tail[i+1:]
		}
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(tail)), "\uFFFD")
}

// lastLines returns the last n lines of s.
func lastLines(s string, n int) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '\n' {
			continue
		}
		if n--; n == 0 {
			return s[i+1:]
		}
	}
	return s
}

func parseTyped(line []byte) *covey.Error {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' {
		return nil
	}
	var e typedError
	if err := json.Unmarshal(line, &e); err != nil || e.Type == "" {
		return nil
	}
	var lines []string
	var stack string
	if json.Unmarshal(e.Stack, &lines) == nil {
		stack = strings.Join(lines, "\n")
	} else {
		// Anything else is no stack, and the error is worth more than its form.
		_ = json.Unmarshal(e.Stack, &stack)
	}
	return &covey.Error{Type: e.Type, Message: e.Message, Stack: stack}
}

// write logs one line.
func (l *Log) write(line []byte, requestID string) {
	out := structured(line, requestID)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(append(out, '\n'))
}

// Entry logs a message, which may have several lines, with a level such as "info".
func (l *Log) Entry(requestID, level, message string) {
	fields := map[string]any{"@level": level}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(append(entry(fields, message, requestID), '\n'))
}

// structured is line in the format of go-plugin's logs, under the request id.
func structured(line []byte, requestID string) []byte {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if line[0] == '{' {
		var fields map[string]json.RawMessage
		if json.Unmarshal(line, &fields) == nil && fields["@message"] != nil {
			if requestID == "" {
				return line
			}
			// A string always encodes, and what was decoded too.
			fields["request_id"], _ = json.Marshal(requestID)
			out, _ := json.Marshal(fields)
			return out
		}
	}
	return entry(map[string]any{}, string(line), requestID)
}

func entry(fields map[string]any, message, requestID string) []byte {
	fields["@message"] = message
	fields["@timestamp"] = time.Now().Format(time.RFC3339Nano)
	if requestID != "" {
		fields["request_id"] = requestID
	}
	// Strings always encode.
	out, _ := json.Marshal(fields)
	return out
}

// Encode is an error as [Stderr.Failure] reads it from a program, so that programs can hand on what a host call
// gave them. It adds whether the other function did not return the error but fell over it.
func Encode(err error) []byte {
	failure := new(covey.Error)
	if !errors.As(err, &failure) {
		failure = &covey.Error{Type: "HostCallFailed", Message: err.Error()}
	}
	// Strings always encode.
	out, _ := json.Marshal(map[string]any{
		"errorType": failure.Type, "errorMessage": failure.Message, "stackTrace": failure.Stack, "unhandled": failure.Unhandled,
	})
	return out
}
