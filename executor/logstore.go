package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/internal/clock"
)

const (
	// logSegments is how many files a function's log is cut into; the oldest is
	// deleted when a new one is begun.
	logSegments = 8
	minLogBytes = logSegments * 16 << 10
	// logIdle is how long a log file without new lines stays open.
	logIdle = time.Minute
)

// logStore keeps the logs of all functions below one directory, one folder per
// app and function.
type logStore struct {
	dir     string
	segment int64 // bytes after which a file is full
	clock   clock.Clock
	log     zerolog.Logger
	dropped atomic.Uint64 // lines that could not be written

	mu        sync.Mutex
	functions map[[2]string]*functionLog // guarded by mu
}

// openLogStore finds what earlier lives of the daemon have left; files are opened
// when they are needed.
func openLogStore(cfg Config) (*logStore, error) {
	dir := filepath.Join(cfg.DataDir, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	return &logStore{
		dir: dir, segment: cfg.LogBytes / logSegments, clock: cfg.Clock, log: cfg.Logger,
		functions: map[[2]string]*functionLog{},
	}, nil
}

// function returns the log of a function, which needs not exist on disk.
func (s *logStore) function(app, name string) *functionLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{app, name}
	l := s.functions[key]
	if l == nil {
		l = &functionLog{s: s, dir: filepath.Join(s.dir, folder(app), folder(name))}
		s.functions[key] = l
	}
	return l
}

// folder makes a name safe as one element of a path, without two names becoming
// the same folder.
func folder(name string) string {
	return "_" + url.PathEscape(name)
}

// closeIdle closes the files of functions that print nothing.
func (s *logStore) closeIdle(now time.Time) {
	for _, l := range s.list() {
		l.mu.Lock()
		if l.file != nil && now.Sub(l.written) > logIdle {
			l.closeLocked()
		}
		l.mu.Unlock()
	}
}

// list returns all logs, so that no lock is held while they are worked on.
func (s *logStore) list() []*functionLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*functionLog, 0, len(s.functions))
	for _, l := range s.functions {
		out = append(out, l)
	}
	return out
}

// close closes all files. Logs can still be read afterwards.
func (s *logStore) close() error {
	var errs []error
	for _, l := range s.list() {
		l.mu.Lock()
		errs = append(errs, l.closeLocked())
		l.mu.Unlock()
	}
	return errors.Join(errs...)
}

// functionLog is one function's log: numbered files of JSON lines, of which the
// last is written to.
type functionLog struct {
	s   *logStore
	dir string

	mu      sync.Mutex
	file    *os.File      // guarded by mu; nil while closed
	last    uint64        // guarded by mu; number of the newest file
	size    int64         // guarded by mu; bytes of it that readers may read
	written time.Time     // guarded by mu; of the newest line
	changed chan struct{} // guarded by mu; closed at the next append, nil if nobody waits
	failing bool          // guarded by mu; the last append failed, and was logged
}

// append writes lines. Lines that cannot be written are counted and lost: a full
// disk must not stop functions.
func (l *functionLog) append(lines []LogLine) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for i := range lines {
		if enc.Encode(&lines[i]) != nil {
			lines[i].Fields = nil // the only part that can fail
			_ = enc.Encode(&lines[i])
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writeLocked(buf.Bytes()); err != nil {
		l.s.dropped.Add(uint64(len(lines)))
		if !l.failing {
			l.s.log.Warn().Str("path", l.dir).Err(err).Msg("function log cannot be written")
		}
		l.failing = true
		return
	}
	l.failing = false
	l.written = time.Now()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// writeLocked adds whole lines to the newest file, or to a new one if they do not
// fit. It does not sync: a log is not worth a disk write per line.
func (l *functionLog) writeLocked(b []byte) error {
	if l.file == nil {
		if err := l.openLocked(); err != nil {
			return err
		}
	}
	if l.size > 0 && l.size+int64(len(b)) > l.s.segment {
		if err := l.rotateLocked(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(b)
	if err == nil {
		l.size += int64(n)
		return nil
	}
	// Half a line would spoil the next one.
	if cut := l.file.Truncate(l.size); cut != nil {
		err = errors.Join(err, cut, l.closeLocked())
	}
	return fmt.Errorf("append to log: %w", err)
}

// openLocked opens the newest file for writing, or a new one when there is none
// or a crash has left half a line in it.
func (l *functionLog) openLocked() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	numbers, err := l.numbers()
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		return l.createLocked(1)
	}
	newest := numbers[len(numbers)-1]
	size, whole, err := inspectSegment(l.path(newest))
	if err != nil {
		return err
	}
	if !whole {
		return l.createLocked(newest + 1)
	}
	f, err := os.OpenFile(l.path(newest), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.last, l.size = f, newest, size
	return nil
}

// inspectSegment returns a file's size, and whether it ends with a whole line.
func inspectSegment(path string) (size int64, whole bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, fmt.Errorf("open log: %w", err)
	}
	defer f.Close() // read only: nothing can be lost
	info, err := f.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("inspect log: %w", err)
	}
	if info.Size() == 0 {
		return 0, true, nil
	}
	var end [1]byte
	if _, err := f.ReadAt(end[:], info.Size()-1); err != nil {
		return 0, false, fmt.Errorf("inspect log: %w", err)
	}
	return info.Size(), end[0] == '\n', nil
}

// createLocked begins a file that did not exist.
func (l *functionLog) createLocked(number uint64) error {
	f, err := os.OpenFile(l.path(number), os.O_WRONLY|os.O_CREATE|os.O_APPEND|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	l.file, l.last, l.size = f, number, 0
	return nil
}

// rotateLocked begins a new file and deletes those that are too many.
func (l *functionLog) rotateLocked() error {
	if err := l.closeLocked(); err != nil {
		return err
	}
	if err := l.createLocked(l.last + 1); err != nil {
		return err
	}
	numbers, err := l.numbers()
	if err != nil {
		return err
	}
	for len(numbers) > logSegments {
		if err := os.Remove(l.path(numbers[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete old log: %w", err)
		}
		numbers = numbers[1:]
	}
	return nil
}

// closeLocked closes the file if it is open; the next line opens it again.
func (l *functionLog) closeLocked() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

// path pads the number, so that the files sort by age for a person too.
func (l *functionLog) path(number uint64) string {
	return filepath.Join(l.dir, fmt.Sprintf("%012d.log", number))
}

// numbers lists the files on disk, oldest first.
func (l *functionLog) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var numbers []uint64
	for _, entry := range entries {
		digits, ok := strings.CutSuffix(entry.Name(), ".log")
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
