package executor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/covey-dev/covey/plugins"
)

const (
	// maxLine is where a line of output is cut into two.
	maxLine = 16 << 10
	// tailBytes is how much of a failed start's output goes into its error.
	tailBytes = 4 << 10
)

// instanceLog takes the output of one instance into its function's log and files
// the lines by request. Structured lines say which request they belong to. Plain
// ones belong to the call in the instance, if it takes one at a time; the output
// is therefore read before the next call begins.
type instanceLog struct {
	into      *functionLog
	version   uint64
	instance  string
	exclusive bool // one call at a time

	request atomic.Pointer[string] // id of the latest call
	plain   atomic.Bool            // has printed plain lines

	outputs []*output // set before the process runs

	mu    sync.Mutex
	early []byte // guarded by mu; the end of what it printed before its first call
}

// instance returns the log of a new instance.
func (s *logStore) instance(key Key, id string, exclusive bool) *instanceLog {
	return &instanceLog{into: s.function(key.App, key.Function), version: key.Version, instance: id, exclusive: exclusive}
}

// begin says that a call begins.
func (l *instanceLog) begin(requestID *string) {
	if l.exclusive && l.plain.Load() {
		l.pump() // what is there was printed for the call before
	}
	l.request.Store(requestID)
}

// pump reads what the instance has printed so far.
func (l *instanceLog) pump() {
	for _, o := range l.outputs {
		o.pump()
	}
}

// platform adds a line of ours.
func (l *instanceLog) platform(message string) {
	l.into.append([]LogLine{l.line(StreamPlatform, message)})
}

// line makes a line of now, filed under the call in the instance if it takes one
// at a time.
func (l *instanceLog) line(stream, message string) LogLine {
	line := LogLine{
		Time: l.into.s.clock.Now().UTC(), Version: l.version, Instance: l.instance, Stream: stream, Message: message,
	}
	if id := l.request.Load(); id != nil && l.exclusive {
		line.RequestID = *id
	}
	return line
}

// write takes whole lines of output.
func (l *instanceLog) write(stream string, raw [][]byte) {
	lines := make([]LogLine, 0, len(raw))
	for _, b := range raw {
		line := l.line(stream, "")
		parsed := plugins.ParseLogLine(b, line.Time)
		if l.request.Load() == nil {
			l.remember(parsed.Message)
		}
		line.Level, line.Message, line.Fields = parsed.Level, strings.ToValidUTF8(parsed.Message, "\uFFFD"), parsed.Fields
		switch {
		case parsed.Level == "":
			l.plain.Store(true)
		case parsed.RequestID != "":
			line.RequestID = parsed.RequestID
		}
		lines = append(lines, line)
	}
	if len(lines) > 0 {
		l.into.append(lines)
	}
}

// remember keeps the end of what is printed before the first call, for the error
// of a start that fails.
func (l *instanceLog) remember(message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.early = append(append(l.early, message...), '\n')
	if over := len(l.early) - tailBytes; over > 0 {
		l.early = append(l.early[:0], l.early[over:]...)
	}
}

// tail returns the end of what the instance printed before its first call.
func (l *instanceLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(string(l.early), "\uFFFD")
}

// output is one stream of an instance: the read end of a pipe. It is read by its
// own goroutine when there is something, or by whoever needs it read now; mu
// makes reading and filing one step, so that after pump returns everything that
// was in the pipe is in the log.
type output struct {
	l      *instanceLog
	stream string
	r      *os.File
	conn   syscall.RawConn
	// handshake, if set, gets every line until it reports that one was not output.
	handshake func(line []byte) bool

	mu   sync.Mutex
	buf  []byte // guarded by mu; read space
	rest []byte // guarded by mu; a line without its end
	done bool   // guarded by mu
}

// open makes a pipe for one stream and returns the end that the instance writes
// to, which the caller closes once the instance has it.
func (l *instanceLog) open(stream string, handshake func([]byte) bool) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe for %s: %w", stream, err)
	}
	if err := l.adopt(stream, r, handshake); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// adopt takes over the read end of a pipe that the instance writes one stream to.
func (l *instanceLog) adopt(stream string, r *os.File, handshake func([]byte) bool) error {
	conn, err := r.SyscallConn()
	if err != nil {
		return fmt.Errorf("read pipe of %s: %w", stream, errors.Join(err, r.Close()))
	}
	l.outputs = append(l.outputs, &output{l: l, stream: stream, r: r, conn: conn, handshake: handshake})
	return nil
}

// run reads until every writer is gone or the pipe is closed.
func (o *output) run() {
	_ = o.conn.Read(func(fd uintptr) bool { return o.drain(int(fd)) })
	// On a busy machine close may have lost patience before this goroutine had its
	// first turn.
	o.pump()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		o.fileLocked([]byte("\n"))
	}
	o.done = true
}

// pump reads what is in the pipe without waiting for more.
func (o *output) pump() {
	_ = o.conn.Control(func(fd uintptr) { o.drain(int(fd)) })
}

// drain reads until the pipe is empty, and reports whether it has ended.
func (o *output) drain(fd int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf == nil {
		o.buf = make([]byte, 8<<10)
	}
	// done stops a reader that comes after the pipe was closed, whose number may
	// be another file by then.
	for !o.done {
		n, err := syscall.Read(fd, o.buf)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			o.buf = nil // thousands of silent instances must not hold memory
			return false
		case err != nil || n <= 0:
			return true
		default:
			o.fileLocked(o.buf[:n])
		}
	}
	return true
}

// fileLocked cuts output into lines and hands the whole ones on.
func (o *output) fileLocked(b []byte) {
	o.rest = append(o.rest, b...)
	var lines [][]byte
	text := o.rest
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\n')
		next := n + 1
		if n < 0 || n > maxLine {
			if len(text) < maxLine {
				break
			}
			n, next = maxLine, maxLine
		}
		line := bytes.TrimSuffix(text[:n], []byte("\r"))
		text = text[next:]
		if o.handshake != nil && o.handshake(line) {
			o.handshake = nil
			continue
		}
		lines = append(lines, line)
	}
	o.l.write(o.stream, lines)
	if len(text) == 0 {
		o.rest = nil
		return
	}
	o.rest = append(o.rest[:0], text...)
}

// close waits until everything printed is in the log. The writers are gone
// already; if one is not, it does not wait for it.
func (l *instanceLog) close(readers *sync.WaitGroup) {
	stop := time.AfterFunc(exitGrace, func() {
		for _, o := range l.outputs {
			_ = o.r.SetReadDeadline(time.Now())
		}
	})
	readers.Wait()
	stop.Stop()
	for _, o := range l.outputs {
		_ = o.r.Close()
	}
}

// abort closes the pipes of an instance that was not started.
func (l *instanceLog) abort() error {
	var errs []error
	for _, o := range l.outputs {
		errs = append(errs, o.r.Close())
	}
	return errors.Join(errs...)
}
