package lambda

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// lineTime is the format of the time in a structured line.
	lineTime = "2006-01-02T15:04:05.000000Z07:00"
	// tailSize is how much of what a program printed before it failed to start goes into its error.
	tailSize = 4 << 10
)

// journal writes to the node: the lines that Lambda writes about a call, and what the program prints.
type journal struct {
	mu   sync.Mutex
	to   io.Writer
	buf  []byte // guarded by mu
	keep bool   // guarded by mu; the program is starting
	last []byte // guarded by mu; the end of what it printed meanwhile
}

func newJournal(to io.Writer) *journal { return &journal{to: to} }

// start says that the program gets a call.
func (j *journal) start(c *call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = appendLine(j.buf[:0], time.Now(), c.RequestID,
		"START RequestId: "+c.RequestID+" Version: "+strconv.FormatUint(c.Version, 10))
	j.flushLocked()
}

// end says that a call is over, and what it took. People's tools read these lines, so their form is Lambda's.
func (j *journal) end(c *call, took, initTook time.Duration, memory, peak uint64) {
	var b strings.Builder
	b.WriteString("REPORT RequestId: " + c.RequestID)
	if initTook > 0 {
		b.WriteString("\tInit Duration: " + milliseconds(initTook) + " ms")
	}
	billed := (took + time.Millisecond - 1) / time.Millisecond
	b.WriteString("\tDuration: " + milliseconds(took) + " ms\tBilled Duration: " + strconv.FormatInt(int64(billed), 10) +
		" ms\tMemory Size: " + strconv.FormatUint(megabytes(memory), 10) +
		" MB\tMax Memory Used: " + strconv.FormatUint((peak+1<<20-1)>>20, 10) + " MB")
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	j.buf = appendLine(j.buf[:0], now, c.RequestID, "END RequestId: "+c.RequestID)
	j.buf = appendLine(j.buf, now, c.RequestID, b.String())
	j.flushLocked()
}

// note says something that belongs to no call.
func (j *journal) note(message string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = appendLine(j.buf[:0], time.Now(), "", message)
	j.flushLocked()
}

// printed passes on whole lines of the program.
func (j *journal) printed(lines [][]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = j.buf[:0]
	for _, line := range lines {
		message, structured := translate(line)
		j.buf = append(append(j.buf, structured...), '\n')
		if j.keep {
			j.last = append(append(j.last, message...), '\n')
			j.last = j.last[max(0, len(j.last)-tailSize):]
		}
	}
	j.flushLocked()
}

// remember and forget frame the time in which the program starts.
func (j *journal) remember() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep, j.last = true, nil
}

func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep, j.last = false, nil
}

// tail returns the end of what the program printed since remember.
func (j *journal) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimRight(string(j.last), "\n"), "\uFFFD")
}

func (j *journal) flushLocked() {
	// If the node does not read any more, it is gone.
	_, _ = j.to.Write(j.buf)
	if cap(j.buf) > 1<<20 {
		j.buf = nil
	}
}

// milliseconds is a time as Lambda prints it.
func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 2, 64)
}

// appendLine appends a structured line of level info. It is written out by hand because three of them go with
// each call.
func appendLine(b []byte, at time.Time, requestID, message string) []byte {
	b = append(b, `{"@level":"info","@message":`...)
	b = appendJSON(b, message)
	b = append(b, `,"@timestamp":"`...)
	b = at.AppendFormat(b, lineTime)
	b = append(b, '"')
	if requestID != "" {
		b = appendJSON(append(b, `,"request_id":`...), requestID)
	}
	return append(b, '}', '\n')
}

// appendJSON appends a JSON string.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = appendEscaped(b, rune(c))
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // Replaces what is no UTF-8.
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}

// translate reads a line of the program. Lines in Lambda's own JSON format, which the runtime interface clients'
// loggers write, become structured lines of the node's, with their level and under their call. All others stay as
// they are.
func translate(line []byte) (message, structured []byte) {
	if len(line) == 0 || line[0] != '{' {
		return line, line
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(line, &fields) != nil {
		return line, line
	}
	level := levelOf(take(fields, "level"))
	stamp, err := time.Parse(time.RFC3339Nano, take(fields, "timestamp", "time"))
	text, ok := messageOf(fields)
	if level == "" || err != nil || !ok {
		return line, line
	}
	out := map[string]any{"@level": level, "@message": text, "@timestamp": stamp.Format(lineTime)}
	if id := take(fields, "requestId", "AWSRequestId", "function_request_id"); id != "" {
		out["request_id"] = id
	}
	for name, value := range fields {
		if _, taken := out[name]; !taken {
			out[name] = value
		}
	}
	if structured, err = json.Marshal(out); err != nil {
		return line, line
	}
	return []byte(text), structured
}

// take removes the first of the names that holds a text, and returns it.
func take(fields map[string]json.RawMessage, names ...string) string {
	for _, name := range names {
		var s string
		if raw, ok := fields[name]; ok && json.Unmarshal(raw, &s) == nil {
			delete(fields, name)
			return s
		}
	}
	return ""
}

// messageOf finds a line's message, which may be an object, or an error.
func messageOf(fields map[string]json.RawMessage) (string, bool) {
	if m := take(fields, "message", "msg"); m != "" {
		// AWS's client for Node.js has no other way to keep a line in one piece.
		return strings.ReplaceAll(m, "\r", "\n"), true
	}
	if raw, ok := fields["message"]; ok {
		delete(fields, "message")
		return string(raw), true
	}
	var typ, message string
	_, hasType := fields["errorType"]
	if hasType && json.Unmarshal(fields["errorType"], &typ) == nil {
		_ = json.Unmarshal(fields["errorMessage"], &message) // It may be missing.
		return typ + ": " + message, true
	}
	return "", false
}

// levelOf gives a level the node's name, or "" if it is none.
func levelOf(level string) string {
	switch strings.ToUpper(level) {
	case "FATAL", "CRITICAL", "ERROR":
		return "error"
	case "WARN", "WARNING":
		return "warn"
	case "INFO":
		return "info"
	case "DEBUG":
		return "debug"
	case "TRACE":
		return "trace"
	}
	return ""
}

// lines cuts text into whole lines and what is left. Without an end a line may have most bytes.
func lines(text []byte, most int) (whole [][]byte, rest []byte) {
	for {
		n := bytes.IndexByte(text, '\n')
		switch {
		case n >= 0:
			whole = append(whole, bytes.TrimSuffix(text[:n], []byte("\r")))
			text = text[n+1:]
		case len(text) >= most:
			return append(whole, text), nil
		default:
			return whole, text
		}
	}
}
