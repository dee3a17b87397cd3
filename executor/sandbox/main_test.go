//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childVariable makes the test binary a program for instances: its value names
// an entry of childPrograms. So the hostile programs are built with the test and
// executed by descriptor, like real functions.
const childVariable = "SANDBOX_TEST_CHILD"

// raceOption keeps a program that was built with the race detector from waiting
// for a second before it exits.
const raceOption = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		program, ok := childPrograms()[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such child program:", name)
			os.Exit(99)
		}
		program()
		os.Exit(0)
	}
	// Like a daemon that was started by nohup; instances must not inherit it.
	signal.Ignore(unix.SIGUSR2)
	goleak.VerifyTestMain(m)
}

// needRoot skips a test that needs root, but not where skipping would go unseen.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, and CI must run it")
	}
	t.Skip("needs root")
}

// newSandbox returns a sandbox of the given modes, or of the machine's best, and
// closes it with the test.
func newSandbox(t testing.TB, modes ...mode) *Sandbox {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	cfg.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	if len(modes) == 0 {
		modes = modesFor(os.Geteuid())
	}
	s, err := newWith(cfg, modes)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// What a mode promises, to choose those that a test is about.
func anything(mode) bool     { return true }
func hides(m mode) bool      { return m.uids || m.landlock }
func endsAll(m mode) bool    { return m.uids || m.namespaces }
func namespaced(m mode) bool { return m.namespaces }

// forEachMode runs a test in every mode that the user can have and that promises
// what the test is about.
func forEachMode(t *testing.T, promises func(mode) bool, test func(t *testing.T, s *Sandbox)) {
	t.Helper()
	t.Parallel()
	for _, m := range modesFor(os.Geteuid()) {
		if !promises(m) {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			test(t, newSandbox(t, m))
		})
	}
}

// child is a started child program with its output.
type child struct {
	*Process
	out *os.File
}

// startChild starts a child program; change adapts the spec.
func startChild(t testing.TB, s *Sandbox, program string, change ...func(*Spec)) *child {
	t.Helper()
	code, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer code.Close()
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	spec := Spec{
		Instance: program, Code: code, Stdout: theirs, Stderr: theirs,
		Env: []string{childVariable + "=" + program, raceOption},
	}
	for _, f := range change {
		f(&spec)
	}
	p, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("Start(%s): %v", program, err)
	}
	t.Cleanup(func() {
		p.Kill()
		_ = out.Close()
	})
	return &child{p, out}
}

// output reads until the child closes its output.
func (c *child) output(t testing.TB) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	if err := c.out.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c.out)
	if err != nil {
		t.Fatalf("read output: %v (so far %q)", err, text)
	}
	return string(text)
}

// line reads one line of output.
func (c *child) line(t testing.TB) string {
	t.Helper()
	if err := c.out.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.out.Read(b); err != nil {
			t.Fatalf("read line: %v (so far %q)", err, line)
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// wait waits for the end and returns the state.
func (c *child) wait(t testing.TB) State {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		t.Fatal("the instance does not end")
	}
	return c.State()
}

// reportOf runs a child program to its end and decodes what it prints.
func reportOf[T any](t testing.TB, s *Sandbox, program string, change ...func(*Spec)) T {
	t.Helper()
	c := startChild(t, s, program, change...)
	text := c.output(t)
	if st := c.wait(t); st.Code != 0 {
		t.Fatalf("%s ended with %+v: %s", program, st, text)
	}
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("report of %s: %v in %q", program, err, text)
	}
	return v
}

// eventually polls until f returns nil, and fails with its last error.
func eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// withToken returns the living processes whose command line contains token.
func withToken(token string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(token)) {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	return found
}

// noneWithToken is withToken as a condition for eventually.
func noneWithToken(token string) func() error {
	return func() error {
		if pids := withToken(token); len(pids) > 0 {
			return fmt.Errorf("processes %v are still there", pids)
		}
		return nil
	}
}

// answer prints a report as JSON.
func answer(v any) {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(98)
	}
}

// outcome is what an attempt came to, as text for a report.
func outcome(err error) string {
	switch {
	case err == nil:
		return "succeeded"
	case errors.Is(err, os.ErrPermission):
		return "denied"
	case errors.Is(err, os.ErrNotExist):
		return "absent"
	}
	return "failed: " + err.Error()
}
