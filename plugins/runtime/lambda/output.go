package lambda

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// maxLine is where a line without an end is passed on. A structured line should fit.
const maxLine = 256 << 10

// output is what the program prints on its standard output and error, which are one stream as on Lambda: that
// keeps their order. A goroutine reads it when there is something, and whoever ends a call reads what is
// there by then, so that it goes before the call's last lines.
type output struct {
	journal *journal
	r, w    *os.File
	conn    syscall.RawConn

	mu   sync.Mutex
	buf  []byte // guarded by mu
	rest []byte // guarded by mu; a line without its end
}

func newOutput(j *journal) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe: %w", err)
	}
	conn, err := r.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("open pipe: %w", errors.Join(err, r.Close(), w.Close()))
	}
	o := &output{journal: j, r: r, w: w, conn: conn, buf: make([]byte, 32<<10)}
	// Both ends stay open for as long as the process lives.
	go func() { _ = conn.Read(func(fd uintptr) bool { return o.drain(int(fd)) }) }()
	return o, nil
}

// pump passes on what has been printed so far, also if its line has no end yet.
func (o *output) pump() {
	_ = o.conn.Control(func(fd uintptr) { o.drain(int(fd)) })
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		o.journal.printed([][]byte{o.rest})
		o.rest = o.rest[:0]
	}
}

// drain reads until the pipe is empty. It reports whether the pipe has ended.
func (o *output) drain(fd int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		n, err := syscall.Read(fd, o.buf)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return false
		case err != nil || n <= 0:
			return true
		default:
			o.rest = append(o.rest, o.buf[:n]...)
			whole, rest := lines(o.rest, maxLine)
			if len(whole) > 0 {
				o.journal.printed(whole)
			}
			o.rest = append(o.rest[:0], rest...)
		}
	}
}
