package logadapt

import (
	"bytes"
	"log"
	"strings"

	"github.com/rs/zerolog"
)

// NewStandard returns a standard logger whose events carry the field
// library=name. A "[LEVEL]" at the start of a line becomes the event's level;
// lines without one are logged at info.
func NewStandard(base zerolog.Logger, name string) *log.Logger {
	out := base.With().Str("library", name).Logger()
	return log.New(&lineWriter{out: out}, "", 0)
}

// lineWriter turns each Write of a standard logger, which is one line, into an
// event.
type lineWriter struct {
	out zerolog.Logger
}

// Write implements io.Writer. It never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	level, msg := parseLine(string(bytes.TrimRight(p, "\r\n")))
	if msg != "" && level >= w.out.GetLevel() {
		w.out.WithLevel(level).Msg(msg)
	}
	return len(p), nil
}

// parseLine splits a level such as "[WARN] " or "[ERR]" off a line, also behind
// the name of the library and a colon, as in "[DEBUG] memberlist: Stream …".
func parseLine(line string) (zerolog.Level, string) {
	line = strings.TrimSpace(line)
	rest, ok := strings.CutPrefix(line, "[")
	if !ok {
		return zerolog.InfoLevel, line
	}
	word, msg, ok := strings.Cut(rest, "]")
	if !ok {
		return zerolog.InfoLevel, line
	}
	level, ok := levelOf(word)
	if !ok {
		return zerolog.InfoLevel, line
	}
	return level, strings.TrimSpace(msg)
}

func levelOf(word string) (zerolog.Level, bool) {
	switch strings.ToUpper(strings.TrimSpace(word)) {
	case "TRACE":
		return zerolog.TraceLevel, true
	case "DEBUG":
		return zerolog.DebugLevel, true
	case "INFO", "NOTICE":
		return zerolog.InfoLevel, true
	case "WARN", "WARNING":
		return zerolog.WarnLevel, true
	case "ERR", "ERROR":
		return zerolog.ErrorLevel, true
	default:
		return zerolog.NoLevel, false
	}
}
