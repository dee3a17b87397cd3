package lambda

import (
	"encoding/json"
	"fmt"
	"strings"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// failureOf reads a runtime interface client's description of an error. typ is what its header says.
//
// Lambda does not tell an error that a function returned from one that it fell over. A stack tells: the clients
// for Go and Rust send one for a panic only, those for other languages for each exception.
func failureOf(typ string, body []byte) *covey.Error {
	var described struct {
		Message    string          `json:"errorMessage"`
		Type       string          `json:"errorType"`
		StackTrace json.RawMessage `json:"stackTrace"`
		Trace      json.RawMessage `json:"trace"` // AWS's client for Node.js
	}
	e := &covey.Error{Type: typ}
	if err := json.Unmarshal(body, &described); err != nil {
		e.Message = string(body)
	} else {
		e.Message = described.Message
		if described.Type != "" {
			e.Type = described.Type
		}
		e.Stack = stack(described.StackTrace)
		if e.Stack == "" {
			e.Stack = stack(described.Trace)
		}
	}
	if e.Type == "" {
		e.Type = "Error"
	}
	e.Unhandled = e.Stack != "" || strings.HasPrefix(e.Type, "Runtime.") || strings.HasPrefix(e.Type, "Sandbox.")
	return e
}

// stack makes lines of a stack in any of the clients' forms: a text, texts, or frames.
func stack(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return string(raw)
	}
	lines := make([]string, 0, len(list))
	for _, item := range list {
		var line string
		var frame struct {
			Path  string `json:"path"`
			Line  int    `json:"line"`
			Label string `json:"label"`
		}
		switch {
		case json.Unmarshal(item, &line) == nil:
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		case json.Unmarshal(item, &frame) == nil:
			lines = append(lines, fmt.Sprintf("%s\n\t%s:%d", frame.Label, frame.Path, frame.Line))
		default:
			lines = append(lines, string(item))
		}
	}
	return strings.Join(lines, "\n")
}
