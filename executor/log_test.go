package executor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func testStore(t testing.TB, change func(*Config)) *logStore {
	t.Helper()
	cfg := testConfig(t)
	cfg.LogBytes = minLogBytes
	if change != nil {
		change(&cfg)
	}
	s, err := openLogStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

// query collects the messages that match.
func query(t testing.TB, s *logStore, q LogQuery) []string {
	t.Helper()
	var out []string
	s.function(q.App, q.Function).read(t.Context(), &q, func(l LogLine, err error) bool {
		if err != nil {
			t.Error(err)
		}
		out = append(out, l.Message)
		return true
	})
	return out
}

var hello = LogQuery{App: "default", Function: "hello"}

func TestLinesAreFiledByRequest(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	l := s.instance(testSpec().Key, "i-1", true)
	l.write(StreamStderr, [][]byte{[]byte("starting up")})
	for _, id := range []string{"r-1", "r-2"} {
		l.begin(&id)
		l.write(StreamStdout, [][]byte{[]byte("plain of " + id), {}})
		l.write(StreamStderr, [][]byte{[]byte(`{"@level":"warn","@message":"structured","@timestamp":"2026-01-02T03:04:05.000000Z","request_id":"r-1","n":7}`)})
	}
	l.platform("instance ended")
	if got := query(t, s, LogQuery{App: "default", Function: "hello", RequestID: "r-1"}); len(got) != 4 || got[0] != "plain of r-1" {
		t.Errorf("lines of r-1 are %q", got)
	}
	if got := query(t, s, LogQuery{App: "default", Function: "hello", RequestID: "r-2"}); !slices.Equal(got, []string{"plain of r-2", "", "instance ended"}) {
		t.Errorf("lines of r-2 are %q", got)
	}
	if got := query(t, s, hello); len(got) != 8 {
		t.Errorf("all lines are %q", got)
	}
	if got := l.tail(); got != "starting up\n" {
		t.Errorf("the output before the first call is %q", got)
	}
}

func TestPlainLinesOfAnInstanceWithManyCallsBelongToNone(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	l := s.instance(testSpec().Key, "i-1", false)
	id := "r-1"
	l.begin(&id)
	l.write(StreamStdout, [][]byte{[]byte("whose?")})
	if got := query(t, s, LogQuery{App: "default", Function: "hello", RequestID: id}); got != nil {
		t.Errorf("lines of %s are %q", id, got)
	}
}

func TestQueriesSelect(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var lines []LogLine
	for i := range 10 {
		lines = append(lines, LogLine{Time: base.Add(time.Duration(i) * time.Minute), Version: uint64(1 + i%2), Message: fmt.Sprint(i)})
	}
	s.function("default", "hello").append(lines)
	cases := []struct {
		name string
		q    LogQuery
		want string
	}{
		{"all", LogQuery{}, "[0 1 2 3 4 5 6 7 8 9]"},
		{"tail", LogQuery{Tail: 3}, "[7 8 9]"},
		{"longer tail than log", LogQuery{Tail: 30}, "[0 1 2 3 4 5 6 7 8 9]"},
		{"since", LogQuery{Since: base.Add(8 * time.Minute)}, "[8 9]"},
		{"version and tail", LogQuery{Version: 1, Tail: 2}, "[6 8]"},
		{"nothing", LogQuery{RequestID: "none"}, "[]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.q.App, c.q.Function = "default", "hello"
			if got := fmt.Sprint(query(t, s, c.q)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestLogIsBoundedOnDiskAndKeepsTheNewest(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	log := s.function("default", "hello")
	const n = 5000
	for i := range n {
		log.append([]LogLine{{Message: fmt.Sprintf("line %d %s", i, strings.Repeat("x", 200))}})
	}
	var size int64
	files, err := filepath.Glob(filepath.Join(log.dir, "*.log"))
	if err != nil || len(files) > logSegments {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > minLogBytes {
		t.Errorf("%d bytes on disk, limit %d", size, minLogBytes)
	}
	got := query(t, s, LogQuery{App: "default", Function: "hello", Tail: 1})
	if len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("line %d ", n-1)) {
		t.Errorf("the newest line is %.20q", got)
	}
	if kept := query(t, s, hello); len(kept) < 100 {
		t.Errorf("only %d lines are kept", len(kept))
	}
}

func TestLogSurvivesARestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	for i := range 3 {
		s, err := openLogStore(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := query(t, s, hello); len(got) != i {
			t.Errorf("life %d finds %q", i, got)
		}
		s.function("default", "hello").append([]LogLine{{Message: fmt.Sprint(i)}})
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		// A crash in the middle of a line.
		files, err := filepath.Glob(filepath.Join(s.dir, "*", "*", "*.log"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"message":"ha`); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFunctionsOfAnyNameHaveLogsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	names := []string{"a", "A", "..", ".", "a/b", "a%2Fb", "_a", ""}
	for _, name := range names {
		s.function(name, name).append([]LogLine{{Message: name}})
	}
	for _, name := range names {
		if got := query(t, s, LogQuery{App: name, Function: name}); !slices.Equal(got, []string{name}) {
			t.Errorf("log of %q is %q", name, got)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(s.dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the log directory are %v, %v", entries, err)
	}
}

func TestFollowSeesEveryLineOnce(t *testing.T) {
	t.Parallel()
	// Large enough that no file is deleted before the reader gets there.
	s := testStore(t, func(cfg *Config) { cfg.LogBytes = 1 << 20 })
	log := s.function("default", "hello")
	log.append([]LogLine{{Message: "0"}, {Message: "1"}})
	const n = 4000 // through several files
	next, stop := iter.Pull2(func(yield func(LogLine, error) bool) {
		log.read(t.Context(), &LogQuery{Tail: 1, Follow: true}, yield)
	})
	defer stop()
	expect := func(i int) {
		t.Helper()
		line, err, ok := next()
		if err != nil || !ok || line.Message != fmt.Sprint(i) {
			t.Fatalf("line %d is %q, %v, %v", i, line.Message, err, ok)
		}
	}
	expect(1) // the reader is there now
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := 2; i < n; i++ {
			log.append([]LogLine{{Message: fmt.Sprint(i)}})
		}
	})
	for i := 2; i < n; i++ {
		expect(i)
	}
	if files, err := log.numbers(); err != nil || len(files) < 2 || files[0] != 1 {
		t.Errorf("files are %v, %v; want several from the first on", files, err)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	s.function("default", "hello").append([]LogLine{{Message: "only"}})
	s.function("default", "hello").read(ctx, &LogQuery{Follow: true}, func(_ LogLine, err error) bool {
		if err != nil {
			t.Errorf("following: %v", err)
		}
		seen++
		cancel()
		return true
	})
	if seen != 1 {
		t.Errorf("saw %d lines, want 1", seen)
	}
}

func TestLogThatCannotBeWrittenLosesLinesOnly(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	log := s.function("default", "hello")
	if err := os.WriteFile(filepath.Dir(log.dir), nil, 0o600); err != nil { // in the way of the folder
		t.Fatal(err)
	}
	log.append([]LogLine{{Message: "lost"}, {Message: "lost"}})
	if n := s.dropped.Load(); n != 2 {
		t.Errorf("%d lines counted as dropped, want 2", n)
	}
	if err := os.Remove(filepath.Dir(log.dir)); err != nil {
		t.Fatal(err)
	}
	log.append([]LogLine{{Message: "kept"}})
	if got := query(t, s, hello); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("log is %q", got)
	}
}

func TestIdleLogFilesAreClosed(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	log := s.function("default", "hello")
	log.append([]LogLine{{Message: "a"}})
	s.closeIdle(time.Now().Add(logIdle / 2))
	if log.file == nil {
		t.Error("a file in use was closed")
	}
	s.closeIdle(time.Now().Add(2 * logIdle))
	if log.file != nil {
		t.Error("an idle file stays open")
	}
	log.append([]LogLine{{Message: "b"}})
	if got := query(t, s, hello); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("log is %q", got)
	}
}

// opened returns a log whose standard output is a pipe that the test writes to.
func opened(t *testing.T, s *logStore, handshake func([]byte) bool) (*instanceLog, *os.File, *sync.WaitGroup) {
	t.Helper()
	l := s.instance(testSpec().Key, "i-1", true)
	w, err := l.open(StreamStdout, handshake)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for _, o := range l.outputs {
		readers.Go(o.run)
	}
	return l, w, &readers
}

func TestOutputIsInTheLogWhenPumpReturns(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	l, w, readers := opened(t, s, nil)
	for i := range 300 {
		id := fmt.Sprint("r-", i)
		l.begin(&id)
		if _, err := fmt.Fprintln(w, "said in", id); err != nil {
			t.Fatal(err)
		}
		l.pump()
	}
	for i := range 300 {
		id := fmt.Sprint("r-", i)
		if got := query(t, s, LogQuery{App: "default", Function: "hello", RequestID: id}); !slices.Equal(got, []string{"said in " + id}) {
			t.Fatalf("lines of %s are %q", id, got)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l.close(readers)
}

func TestOutputIsCutIntoLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", maxLine+10)
	cases := []struct {
		name   string
		writes []string
		want   []string
	}{
		{"lines", []string{"a\nb\r\n", "\n"}, []string{"a", "b", ""}},
		{"in pieces", []string{"a", "b", "c\nd"}, []string{"abc", "d"}},
		{"too long", []string{long + "\nshort\n"}, []string{long[:maxLine], long[maxLine:], "short"}},
		{"not text", []string{"\xff\xfe\n"}, []string{"\uFFFD"}},
		{"handshake after a line", []string{"early\n1|1|unix|/x|netrpc|\nlate\n"}, []string{"early", "late"}},
		{"nothing", nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := testStore(t, nil)
			a := newAttachment(&processLauncher{}, nil)
			l, w, readers := opened(t, s, a.handshake)
			for _, text := range c.writes {
				if _, err := w.WriteString(text); err != nil {
					t.Fatal(err)
				}
				l.pump()
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			l.close(readers)
			if got := query(t, s, hello); !slices.Equal(got, c.want) {
				t.Errorf("lines are %.60q, want %.60q", got, c.want)
			}
		})
	}
}

// A process that survives its instance, with the pipe in its hands, must not
// keep the executor waiting.
func TestClosingALogDoesNotWaitForAForgottenWriter(t *testing.T) {
	t.Parallel()
	l, w, readers := opened(t, testStore(t, nil), nil)
	defer w.Close()
	l.close(readers)
	if _, err := w.WriteString("late\n"); !errors.Is(err, os.ErrClosed) && err == nil {
		t.Error("the pipe is still open")
	}
}

// TestOutputIsReadAlthoughItsReaderIsLate ends a reader's time before its first
// turn, which a busy machine does to an instance that ends.
func TestOutputIsReadAlthoughItsReaderIsLate(t *testing.T) {
	t.Parallel()
	s := testStore(t, nil)
	l := s.instance(testSpec().Key, "i-1", true)
	w, err := l.open(StreamStdout, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("first\nlast words"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), l.outputs[0].r.SetReadDeadline(time.Now())); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(l.outputs[0].run)
	l.close(&readers)
	if got := query(t, s, hello); !slices.Equal(got, []string{"first", "last words"}) {
		t.Errorf("the log has %q", got)
	}
}
