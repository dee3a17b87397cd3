package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// lineWriter writes NDJSON, and signs of life between. Safe for concurrent use.
type lineWriter struct {
	w     http.ResponseWriter
	flush bool

	mu   sync.Mutex
	open bool      // guarded by mu; the header was sent
	last time.Time // guarded by mu; when something was written
}

// started reports whether an error can still be answered as one.
func (l *lineWriter) started() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// start sends the header.
func (l *lineWriter) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startLocked()
	l.flushLocked()
}

func (l *lineWriter) startLocked() {
	if l.open {
		return
	}
	l.open = true
	l.last = time.Now()
	h := l.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	l.w.WriteHeader(http.StatusOK)
}

func (l *lineWriter) flushLocked() {
	if f, ok := l.w.(http.Flusher); ok && l.flush {
		f.Flush()
	}
}

// write sends one line.
func (l *lineWriter) write(line any) error {
	raw, err := encodeLine(line)
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	return l.send(raw)
}

// send writes bytes that end a line, and sends them at once when following.
func (l *lineWriter) send(raw []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startLocked()
	l.last = time.Now()
	if _, err := l.w.Write(raw); err != nil {
		return fmt.Errorf("write line: %w", err)
	}
	l.flushLocked()
	return nil
}

// keepAlive sends signs of life until the returned function is called, which
// waits for the sender to end. A failing one ends the stream through cancel.
func (l *lineWriter) keepAlive(ctx context.Context, cancel context.CancelFunc) (stop func()) {
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		tick := time.NewTicker(signOfLife)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if l.send([]byte("\n")) != nil {
				cancel()
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
