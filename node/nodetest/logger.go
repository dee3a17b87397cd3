package nodetest

import (
	"sync"
	"testing"

	"github.com/rs/zerolog"
)

// Logger returns a logger that writes to the test's log until the test's end.
// What comes later is dropped: memberlist leaves timers behind that log once more,
// and testing panics at that.
func Logger(t testing.TB) zerolog.Logger {
	w := &writer{w: zerolog.NewTestWriter(t)}
	t.Cleanup(w.close)
	return zerolog.New(w).With().Timestamp().Logger()
}

type writer struct {
	mu     sync.Mutex
	w      zerolog.TestWriter
	closed bool // guarded by mu
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(p), nil
	}
	return w.w.Write(p)
}

func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}
