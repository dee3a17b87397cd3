// Package logadapt lets libraries that log through hclog or the standard logger
// write into the daemon's zerolog, so that one process has one format. It filters
// by the level of the zerolog.Logger it is given and knows no level of its own.
package logadapt

import (
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// HCLog is an hclog.Logger over a zerolog.Logger. Make one with NewHCLog. It is
// immutable but for its level, and safe for concurrent use.
type HCLog struct {
	base zerolog.Logger // without implied fields
	out  zerolog.Logger // with them
	name string
	args []any
	damp *damper // shared by everything derived from one NewHCLog
}

var _ hclog.Logger = (*HCLog)(nil)

// NewHCLog returns a logger whose events carry the field library=name. Of
// messages that repeat for one peer it writes the first three and then one in
// thirty seconds.
func NewHCLog(base zerolog.Logger, name string) *HCLog {
	return build(base, name, nil, &damper{})
}

func build(base zerolog.Logger, name string, args []any, damp *damper) *HCLog {
	ctx := base.With()
	if name != "" {
		ctx = ctx.Str("library", name)
	}
	return &HCLog{base: base, out: ctx.Fields(fields(args)).Logger(), name: name, args: args, damp: damp}
}

// Log implements hclog.Logger.
func (l *HCLog) Log(level hclog.Level, msg string, args ...any) {
	if !l.enabled(level) || !l.damp.pass(msg, args) {
		return
	}
	event := l.out.WithLevel(toZero(level))
	if event == nil {
		return
	}
	event.Fields(fields(args)).Msg(msg)
}

// Trace implements hclog.Logger.
func (l *HCLog) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (l *HCLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (l *HCLog) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (l *HCLog) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (l *HCLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *HCLog) enabled(level hclog.Level) bool {
	zero := toZero(level)
	return zero >= l.out.GetLevel() && zero >= zerolog.GlobalLevel()
}

// IsTrace implements hclog.Logger.
func (l *HCLog) IsTrace() bool { return l.enabled(hclog.Trace) }

// IsDebug implements hclog.Logger.
func (l *HCLog) IsDebug() bool { return l.enabled(hclog.Debug) }

// IsInfo implements hclog.Logger.
func (l *HCLog) IsInfo() bool { return l.enabled(hclog.Info) }

// IsWarn implements hclog.Logger.
func (l *HCLog) IsWarn() bool { return l.enabled(hclog.Warn) }

// IsError implements hclog.Logger.
func (l *HCLog) IsError() bool { return l.enabled(hclog.Error) }

// ImpliedArgs implements hclog.Logger.
func (l *HCLog) ImpliedArgs() []any { return l.args }

// With implements hclog.Logger.
func (l *HCLog) With(args ...any) hclog.Logger {
	return build(l.base, l.name, append(l.args[:len(l.args):len(l.args)], args...), l.damp)
}

// Name implements hclog.Logger.
func (l *HCLog) Name() string { return l.name }

// Named implements hclog.Logger: names are joined by a dot.
func (l *HCLog) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return build(l.base, name, l.args, l.damp)
}

// ResetNamed implements hclog.Logger.
func (l *HCLog) ResetNamed(name string) hclog.Logger { return build(l.base, name, l.args, l.damp) }

// SetLevel implements hclog.Logger and does nothing: the daemon's level counts.
func (l *HCLog) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *HCLog) GetLevel() hclog.Level { return toHCLog(l.out.GetLevel()) }

// StandardLogger implements hclog.Logger.
func (l *HCLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

// StandardWriter implements hclog.Logger. Levels are always inferred.
func (l *HCLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return &lineWriter{out: l.out}
}

// fields turns hclog's alternating keys and values into a map. The key "error"
// becomes "err", as the whole daemon calls it.
func fields(args []any) map[string]any {
	if len(args) == 0 {
		return nil
	}
	m := make(map[string]any, (len(args)+1)/2)
	if len(args)%2 != 0 {
		m["extra"] = render(args[len(args)-1])
		args = args[:len(args)-1]
	}
	for i := 0; i < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok {
			key = fmt.Sprint(args[i])
		}
		key = strings.ReplaceAll(key, "-", "_")
		if key == "error" {
			key = "err"
		}
		m[key] = render(args[i+1])
	}
	return m
}

// render makes a value readable in JSON: hclog's lazy formats, errors and
// durations print as text, everything else as it is.
func render(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if len(v) == 0 {
			return ""
		}
		return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
	case error:
		return v.Error()
	case time.Duration:
		return v.String()
	case fmt.Stringer:
		return v.String()
	default:
		return v
	}
}

func toZero(level hclog.Level) zerolog.Level {
	switch level {
	case hclog.Trace:
		return zerolog.TraceLevel
	case hclog.Debug:
		return zerolog.DebugLevel
	case hclog.Warn:
		return zerolog.WarnLevel
	case hclog.Error:
		return zerolog.ErrorLevel
	case hclog.Off:
		return zerolog.Disabled
	default:
		return zerolog.InfoLevel
	}
}

func toHCLog(level zerolog.Level) hclog.Level {
	switch level {
	case zerolog.TraceLevel:
		return hclog.Trace
	case zerolog.DebugLevel:
		return hclog.Debug
	case zerolog.WarnLevel:
		return hclog.Warn
	case zerolog.ErrorLevel, zerolog.FatalLevel, zerolog.PanicLevel:
		return hclog.Error
	case zerolog.Disabled:
		return hclog.Off
	default:
		return hclog.Info
	}
}
