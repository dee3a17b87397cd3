package executor

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// The values of LogLine.Stream.
const (
	StreamStdout   = "stdout"
	StreamStderr   = "stderr"
	StreamPlatform = "platform" // said by the executor about an instance
)

// LogLine is one line of a function's log.
type LogLine struct {
	Time     time.Time `json:"time"`
	Version  uint64    `json:"version"`
	Instance string    `json:"instance"`
	// RequestID is the call that the line belongs to, or empty.
	RequestID string `json:"request_id,omitempty"`
	Stream    string `json:"stream"`
	// Level is that of a structured line, or empty.
	Level   string `json:"level,omitempty"`
	Message string `json:"message"`
	// Fields are the further fields of a structured line, a JSON object.
	Fields json.RawMessage `json:"fields,omitempty"`
}

// LogQuery selects lines of one function's log on this node.
type LogQuery struct {
	App, Function string
	// Version selects one version, 0 all of them.
	Version uint64
	// RequestID selects the lines of one call; empty means all.
	RequestID string
	// Since leaves out what is older; zero means nothing.
	Since time.Time
	// Tail leaves out all but the last so many matching lines that exist when
	// the query begins; 0 means none is left out.
	Tail int
	// Follow goes on with new lines until the context ends.
	Follow bool
}

// match tells whether a line is asked for.
func (q *LogQuery) match(l *LogLine) bool {
	return (q.Version == 0 || q.Version == l.Version) &&
		(q.RequestID == "" || q.RequestID == l.RequestID) &&
		!l.Time.Before(q.Since)
}

// Logs returns the lines of a function's log on this node, oldest first. What
// instances have printed before the call is in it; instances may be gone long
// since. A query that follows ends without an error when ctx does.
func (e *Executor) Logs(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		for _, p := range *e.pools.Load() {
			if p.key.App == q.App && p.key.Function == q.Function {
				p.pumpLogs()
			}
		}
		e.logs.function(q.App, q.Function).read(ctx, &q, yield)
	}
}

// pumpLogs takes what living instances have printed into the log.
func (p *pool) pumpLogs() {
	p.mu.Lock()
	logs := make([]*instanceLog, 0, len(p.all))
	for in := range p.all {
		if in.state != StateStarting { // it has no output that could be read yet
			logs = append(logs, in.log)
		}
	}
	p.mu.Unlock()
	for _, l := range logs {
		l.pump()
	}
}
