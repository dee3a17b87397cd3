package executor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxStoredLine bounds one line of a log file: a message and its fields, escaped.
const maxStoredLine = 1 << 20

// position is a place in a function's log.
type position struct {
	segment uint64
	offset  int64
}

// read passes the lines that match q to yield, and then, if q follows, those
// that come, until ctx ends or yield returns false.
func (l *functionLog) read(ctx context.Context, q *LogQuery, yield func(LogLine, error) bool) {
	var at position
	pass := func(line LogLine) bool { return ctx.Err() == nil && yield(line, nil) }
	end, changed, err := l.end(q.Follow)
	if err == nil && q.Tail > 0 {
		last := newRing(q.Tail)
		if at, _, err = l.scan(at, end, q, last.add); err == nil {
			for _, line := range last.lines() {
				if !pass(line) {
					return
				}
			}
		}
	}
	// Each round reads up to the end that it saw; the channel was taken together
	// with that end, so a line that comes meanwhile is not missed.
	for more := true; err == nil; {
		if at, more, err = l.scan(at, end, q, pass); err != nil || !more || !q.Follow {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		end, changed, err = l.end(true)
	}
	if err != nil {
		yield(LogLine{}, fmt.Errorf("read log: %w", err))
	}
}

// end returns how far the log can be read now and, if wanted, a channel that is
// closed when there is more.
func (l *functionLog) end(follow bool) (position, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if follow && l.changed == nil {
		l.changed = make(chan struct{})
	}
	if l.file != nil {
		return position{l.last, l.size}, l.changed, nil
	}
	numbers, err := l.numbers()
	if err != nil || len(numbers) == 0 {
		return position{}, l.changed, err
	}
	newest := numbers[len(numbers)-1]
	info, err := os.Stat(l.path(newest))
	if err != nil {
		return position{}, nil, fmt.Errorf("inspect log: %w", err)
	}
	return position{newest, info.Size()}, l.changed, nil
}

// scan passes the matching lines between two positions to add, and returns where
// it stopped and whether add wants more. Files that were deleted meanwhile are
// passed over.
func (l *functionLog) scan(at, end position, q *LogQuery, add func(LogLine) bool) (position, bool, error) {
	numbers, err := l.numbers()
	if err != nil {
		return at, false, err
	}
	for _, number := range numbers {
		if number < at.segment || number > end.segment {
			continue
		}
		from, to := int64(0), int64(-1)
		if number == at.segment {
			from = at.offset
		}
		if number == end.segment {
			to = end.offset
		}
		more, err := scanFile(l.path(number), from, to, q, add)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !more {
			return at, more, err
		}
	}
	return end, true, nil
}

// scanFile reads the lines of a file from one offset to another, -1 for its end.
func scanFile(path string, from, to int64, q *LogQuery, add func(LogLine) bool) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("open log: %w", err)
	}
	defer f.Close() // read only: nothing can be lost
	if to < 0 {
		info, err := f.Stat()
		if err != nil {
			return false, fmt.Errorf("inspect log: %w", err)
		}
		to = info.Size()
	}
	sc := bufio.NewScanner(io.NewSectionReader(f, from, to-from))
	sc.Buffer(make([]byte, 0, 64<<10), maxStoredLine)
	for sc.Scan() {
		// Looking for the id is a lot cheaper than decoding every line.
		if q.RequestID != "" && !bytes.Contains(sc.Bytes(), []byte(q.RequestID)) {
			continue
		}
		var line LogLine
		if json.Unmarshal(sc.Bytes(), &line) != nil {
			continue // the half line of a crash
		}
		if q.match(&line) && !add(line) {
			return false, nil
		}
	}
	if err := sc.Err(); err != nil {
		return false, fmt.Errorf("scan log: %w", err)
	}
	return true, nil
}

// ring keeps the last n lines.
type ring struct {
	kept []LogLine
	next int
	n    int
}

// newRing returns an empty ring; it takes memory only for lines that come.
func newRing(n int) *ring { return &ring{n: n} }

// add keeps a line in the place of the oldest. It always wants more.
func (r *ring) add(line LogLine) bool {
	if len(r.kept) < r.n {
		r.kept = append(r.kept, line)
		return true
	}
	r.kept[r.next] = line
	r.next = (r.next + 1) % r.n
	return true
}

// lines returns what is kept, oldest first.
func (r *ring) lines() []LogLine {
	return append(r.kept[r.next:len(r.kept):len(r.kept)], r.kept[:r.next]...)
}
