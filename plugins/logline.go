package plugins

import (
	"bytes"
	"encoding/json"
	"time"
)

// LogLine is one line that a function wrote.
type LogLine struct {
	Time time.Time
	// Level is "trace", "debug", "info", "warn" or "error"; "" for a line that is not structured.
	Level   string
	Message string
	// RequestID is the invocation that wrote the line, if it says so.
	RequestID string
	// Fields are the further fields as a JSON object, or nil.
	Fields json.RawMessage
}

// ParseLogLine reads one line of an instance's output: hclog JSON (the SDK's and go-plugin's format), or
// anything else, which becomes the Message. now is the time of a line that does not give its own.
func ParseLogLine(line []byte, now time.Time) LogLine {
	line = bytes.TrimRight(line, "\r\n")
	plain := LogLine{Time: now, Message: string(line)}
	if len(line) == 0 || line[0] != '{' {
		return plain
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return plain
	}
	l := LogLine{Time: now}
	if !take(fields, "@message", &l.Message) {
		return plain
	}
	take(fields, "@level", &l.Level)
	take(fields, "request_id", &l.RequestID)
	var stamp string
	if take(fields, "@timestamp", &stamp) {
		if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			l.Time = t
		}
	}
	if len(fields) > 0 {
		// A map of raw messages that came out of Unmarshal always goes back in.
		l.Fields, _ = json.Marshal(fields)
	}
	return l
}

// take moves a string field out of fields and reports whether it was there.
func take(fields map[string]json.RawMessage, key string, to *string) bool {
	raw, ok := fields[key]
	if !ok || json.Unmarshal(raw, to) != nil {
		return false
	}
	delete(fields, key)
	return true
}
