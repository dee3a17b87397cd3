package covey

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"
)

// Logger returns a logger whose lines the node files under the invocation of ctx (`covey logs --request ID`).
func Logger(ctx context.Context) *slog.Logger {
	logger := slog.New(LogHandler())
	if id := FromContext(ctx).RequestID; id != "" {
		return logger.With(requestIDKey, id)
	}
	return logger
}

// LogHandler returns a handler that writes the lines which a node understands. Records logged with a handler's
// context (slog.InfoContext) are filed under its invocation. To send everything there:
//
//	slog.SetDefault(slog.New(covey.LogHandler()))
func LogHandler() slog.Handler { return &logHandler{inner: newJSONHandler(os.Stderr)} }

const requestIDKey = "request_id"

// hclogTime is the format that go-plugin parses.
const hclogTime = "2006-01-02T15:04:05.000000Z07:00"

// newJSONHandler writes go-plugin's log format: JSON with the standard keys behind an "@".
func newJSONHandler(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			if t, ok := a.Value.Any().(time.Time); ok {
				return slog.String("@timestamp", t.Format(hclogTime))
			}
		case slog.LevelKey:
			if level, ok := a.Value.Any().(slog.Level); ok {
				return slog.String("@level", levelName(level))
			}
		case slog.MessageKey:
			a.Key = "@message"
		}
		return a
	}})
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "trace"
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}

// logHandler adds the request id of the context.
type logHandler struct {
	inner  slog.Handler
	tagged bool // the id is among the attributes already
}

var _ slog.Handler = (*logHandler)(nil)

// Enabled lets everything through; the node filters.
func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle writes the record as one line.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := FromContext(ctx).RequestID; id != "" && !h.tagged {
		r = r.Clone()
		r.AddAttrs(slog.String(requestIDKey, id))
	}
	return h.inner.Handle(ctx, r)
}

// WithAttrs returns a handler that adds attrs to each record.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	tagged := h.tagged
	for _, a := range attrs {
		tagged = tagged || a.Key == requestIDKey
	}
	return &logHandler{inner: h.inner.WithAttrs(attrs), tagged: tagged}
}

// WithGroup returns a handler that puts what follows under name.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{inner: h.inner.WithGroup(name), tagged: h.tagged}
}
