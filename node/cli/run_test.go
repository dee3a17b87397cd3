package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// shared is a buffer that the command writes while the test reads.
type shared struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// served is `covey run` at work.
type served struct {
	t      *testing.T
	dir    string
	url    string
	stderr *shared
	end    func() int
}

// startRun runs a folder until the test ends.
func startRun(t *testing.T, files map[string]string) *served {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("without root the sandbox may refuse instances")
	}
	s := &served{t: t, dir: t.TempDir(), stderr: &shared{}}
	for name, content := range files {
		s.save(name, content)
	}
	out, theirs := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		env := Env{Stdin: strings.NewReader(""), Stdout: theirs, Stderr: s.stderr, LookupEnv: func(string) (string, bool) { return "", false }}
		code <- Run(ctx, env, []string{"run", s.dir})
		_ = theirs.Close()
	}()
	s.end = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() {
		if got := s.end(); got != ExitOK {
			t.Errorf("exit code %d\n%s", got, s.stderr)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no address: %v\n%s", err, s.stderr)
	}
	s.url = strings.TrimSpace(line)
	return s
}

// save replaces a file as editors do.
func (s *served) save(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	aside := path + "~"
	if err := errors.Join(os.WriteFile(aside, []byte(content), 0o755), os.Rename(aside, path)); err != nil {
		s.t.Fatal(err)
	}
}

// call sends an event and returns status and answer.
func (s *served) call(event string) (int, string) {
	s.t.Helper()
	resp, err := http.Post(s.url, "text/plain", strings.NewReader(event))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// await polls until check returns nil.
func (s *served) await(check func() error) {
	s.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			s.t.Fatalf("%v\n%s", err, s.stderr)
		case <-tick.C:
		}
	}
}

// awaitAnswer waits for the function to be another one.
func (s *served) awaitAnswer(want string) {
	s.t.Helper()
	s.await(func() error {
		if status, got := s.call("x"); status != http.StatusOK || got != want {
			return fmt.Errorf("got %d %q, want %q", status, got, want)
		}
		return nil
	})
}

// awaitSaid waits for a line on standard error.
func (s *served) awaitSaid(want string) {
	s.t.Helper()
	s.await(func() error {
		if got := s.stderr.String(); !strings.Contains(got, want) {
			return fmt.Errorf("it did not say %q", want)
		}
		return nil
	})
}

func TestRunFollowsTheFiles(t *testing.T) {
	t.Parallel()
	s := startRun(t, map[string]string{"f": "#!/bin/sh\necho one\n"})
	s.awaitAnswer("one\n")
	s.save("f", "#!/bin/sh\necho two\n")
	s.awaitAnswer("two\n")
	// A mistake leaves what works in place, and is cured by the next save.
	s.save("covey.yaml", "nmae: f\n")
	s.awaitSaid("covey.yaml:1: unknown key")
	s.awaitAnswer("two\n")
	s.save("covey.yaml", "env: {A: three}\n")
	s.save("f", "#!/bin/sh\necho $A\n")
	s.awaitAnswer("three\n")
	// A file that the function does not consist of makes no new version.
	s.awaitSaid("version ")
	before := strings.Count(s.stderr.String(), "is in place")
	s.save(".coveyignore", "notes\n")
	s.save("notes", "x")
	s.save("f", "#!/bin/sh\necho four\n")
	s.awaitAnswer("four\n")
	if after := strings.Count(s.stderr.String(), "is in place"); after != before+1 {
		t.Errorf("%d new versions\n%s", after-before, s.stderr)
	}
	if got := s.end(); got != ExitOK {
		t.Errorf("exit code %d", got)
	}
	if _, err := http.Get(s.url); err == nil {
		t.Error("it answers after its end")
	}
}

func TestRunBuildsOnceForEachSave(t *testing.T) {
	t.Parallel()
	builds := filepath.Join(t.TempDir(), "builds")
	s := startRun(t, map[string]string{
		"covey.yaml": "build: mkdir -p out && date +%N > out/stamp && cp src out/f && echo build >> " + builds + "\ncode: out\n",
		"src":        "#!/bin/sh\necho one\n",
	})
	s.awaitAnswer("one\n")
	s.save("src", "#!/bin/sh\necho two\n")
	s.awaitAnswer("two\n")
	s.save("src", "#!/bin/sh\necho three\n")
	s.awaitAnswer("three\n")
	raw, err := os.ReadFile(builds)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "build"); n != 3 {
		t.Errorf("%d builds\n%s", n, s.stderr)
	}
}

func TestRunShowsCallsAndLogs(t *testing.T) {
	t.Parallel()
	s := startRun(t, map[string]string{"f": "#!/bin/sh\necho noted >&2\nread x && [ $x = good ] && echo fine\n"})
	if status, got := s.call("good\n"); status != http.StatusOK || got != "fine\n" {
		t.Errorf("got %d %q", status, got)
	}
	if status, got := s.call("bad\n"); status != http.StatusInternalServerError || !strings.Contains(got, `"function_error"`) {
		t.Errorf("got %d %q", status, got)
	}
	s.awaitSaid("err   noted")
	s.awaitSaid("call  POST / 200, 5 B, ")
	s.awaitSaid("call  POST / 500, ")
	s.awaitSaid("ExitCode: exit status 1")
}
