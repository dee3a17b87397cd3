package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/cli/local"
)

// The colours of levels, for terminals.
const (
	plain  = "\x1b[0m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	blue   = "\x1b[34m"
	grey   = "\x1b[90m"
)

// colour wraps text, unless the terminal or the user does not want that.
func (a *app) colour(code, text string) string {
	if a.noColor() {
		return text
	}
	return code + text + plain
}

// localLog shows the log of a function that runs here, to a person. With -o json
// each line is an object.
func (a *app) localLog() func(executor.LogLine) {
	if a.json() {
		e := json.NewEncoder(a.env.Stderr)
		return func(line executor.LogLine) { _ = e.Encode(line) }
	}
	said := ""
	return func(line executor.LogLine) {
		if line.Stream == executor.StreamPlatform {
			if line.Message == said {
				return // a start that fails is tried again and again
			}
			said = line.Message
		}
		level := strings.ToLower(line.Level)
		shown := map[string]string{
			"error": a.colour(red, "error"), "warn": a.colour(yellow, "warn "), "info": a.colour(blue, "info "), "debug": a.colour(grey, "debug"),
		}[level]
		switch {
		case line.Stream == executor.StreamPlatform:
			shown = a.colour(yellow, "covey")
		case shown == "":
			shown = a.colour(grey, fmt.Sprintf("%-5.5s", map[string]string{executor.StreamStdout: "out", executor.StreamStderr: "err"}[line.Stream]))
		}
		// Later lines of a message begin below its first.
		text := strings.ReplaceAll(strings.TrimRight(line.Message, "\n"), "\n", "\n"+strings.Repeat(" ", 15))
		a.say("%s %s %s%s", a.colour(grey, line.Time.Local().Format("15:04:05")), shown, text, a.fields(line.Fields))
	}
}

// fields shows the further fields of a structured line.
func (a *app) fields(raw json.RawMessage) string {
	var fields map[string]any
	if len(raw) == 0 || json.Unmarshal(raw, &fields) != nil {
		return ""
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, ok := fields[name].(string)
		if !ok {
			encoded, _ := json.Marshal(fields[name]) // it was JSON a moment ago
			value = string(encoded)
		}
		b.WriteString(" " + a.colour(grey, name+"=") + value)
	}
	return b.String()
}

// localCall shows how a call went.
func (a *app) localCall(c local.Call) {
	if a.json() {
		answer := map[string]any{
			"time": time.Now(), "request_id": c.RequestID, "method": c.Method, "path": c.Path,
			"status": c.Status, "bytes": c.Bytes, "cold": c.Cold, "took_ns": c.Took,
		}
		if c.Err != nil {
			answer["problem"] = local.Problem(c.Err, c.RequestID)
		}
		_ = json.NewEncoder(a.env.Stderr).Encode(answer) // there is nowhere else to say it
		return
	}
	status := fmt.Sprint(c.Status)
	if c.Status >= 400 {
		status = a.colour(red, status)
	}
	start := "warm"
	if c.Cold {
		start = "cold: " + anatomy(c.Steps)
	}
	a.say("%s %s %s %s, %s, %s, %s", a.colour(grey, time.Now().Format("15:04:05")), a.colour(grey, "call "),
		c.Method+" "+c.Path, status, size(c.Bytes), millis(c.Took), start)
	if c.Err == nil {
		return
	}
	p := local.Problem(c.Err, c.RequestID)
	if p.Error == nil {
		a.say("%15s%s", "", p.Detail)
		return
	}
	a.say("%15s%s: %s", "", p.Error.Type, p.Error.Message)
	for _, line := range p.Error.Stack {
		a.say("%17s%s", "", line)
	}
}

// anatomy is where the time of a cold start went.
func anatomy(s executor.Steps) string {
	var parts []string
	for _, step := range []struct {
		name string
		took time.Duration
	}{{"queue", s.Queue}, {"fetch", s.Fetch}, {"spawn", s.Spawn}, {"handshake", s.Handshake}, {"init", s.Init}, {"run", s.Run}} {
		if step.took > 0 {
			parts = append(parts, step.name+" "+millis(step.took))
		}
	}
	return strings.Join(parts, ", ")
}

// copyAnswer writes an answer, as it comes when it is a stream.
func (a *app) copyAnswer(resp *executor.Response) error {
	if resp.Stream == nil {
		_, err := a.env.Stdout.Write(resp.Body)
		return err
	}
	_, err := io.Copy(a.env.Stdout, resp.Stream)
	return err
}
