//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

func TestUnreadableNoteIsReportedAndHarmless(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"garbage": "{", "empty": "", "relative": `{"run_dir":"../precious"}`, "without directory": `{}`,
	} {
		cfg := DefaultConfig()
		var log bytes.Buffer
		cfg.DataDir, cfg.Logger = filepath.Join(t.TempDir(), "data"), zerolog.New(&log)
		precious := filepath.Join(filepath.Dir(cfg.DataDir), "precious")
		for _, dir := range []string{cfg.DataDir, precious} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(cfg.DataDir, leftoverFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(precious); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(log.String(), "unreadable") {
			t.Errorf("%s: log says %s", name, log.String())
		}
	}
}

// TestOrphansOfDeadDaemonsAreRemoved wipes the data directory of a killed daemon,
// so that only another one can clean up, and kills a second that is spared because
// its user lives.
func TestOrphansOfDeadDaemonsAreRemoved(t *testing.T) {
	t.Parallel()
	needRoot(t)
	start := func(kind string) (*exec.Cmd, string, string) {
		dataDir := filepath.Join(t.TempDir(), "data")
		cmd, out := startDaemon(t, "daemon", dataDir, 0, "orphan-"+kind+strconv.Itoa(os.Getpid()))
		line, err := out.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "ready") {
			t.Fatalf("daemon says %q, %v", line, err)
		}
		note, err := readNote(filepath.Join(dataDir, leftoverFile))
		if err != nil || len(note.Cgroups) == 0 {
			t.Fatalf("note %+v, %v", note, err)
		}
		return cmd, note.RunDir, note.Cgroups[0]
	}
	dead, deadRun, deadCgroup := start("dead")
	_, livingRun, livingCgroup := start("living")
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = dead.Wait()
	// The last children may hold the lock for a moment.
	eventually(t, time.Minute, func() error {
		newSandbox(t)
		for _, path := range []string{deadRun, deadCgroup} {
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is left: %w", path, err)
			}
		}
		return nil
	})
	for _, path := range []string{livingRun, livingCgroup} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("of a living daemon: %v", err)
		}
	}
}

// TestLookingForOrphansHindersNoStart holds the lock of a directory that is being
// made, as another daemon does that looks whether it is an orphan.
func TestLookingForOrphansHindersNoStart(t *testing.T) {
	t.Parallel()
	s := &Sandbox{runDir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.runDir, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := tryLock(s.runDir)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = other.Close() })
	if err := s.lockRunDir(); err != nil || s.lock == nil {
		t.Fatalf("lock %v, %v", s.lock, err)
	}
	if err := s.lock.Close(); err != nil {
		t.Error(err)
	}
}

func TestSandboxTakesARunDir(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.DataDir, cfg.RunDir = t.TempDir(), t.TempDir()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := startChild(t, s, "sleep")
	if !strings.HasPrefix(c.Dir(), cfg.RunDir+"/covey-") {
		t.Errorf("private directory %s", c.Dir())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(cfg.RunDir); err != nil || len(entries) > 0 {
		t.Errorf("RunDir holds %v, %v", entries, err)
	}
}

func TestSocketPathsStayShort(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := startChild(t, s, "serve")
	if got := c.line(t); got != "ready" {
		t.Errorf("in %s: %s", c.Dir(), got)
	}
}

func TestEndProcessesSparesOthers(t *testing.T) {
	t.Parallel()
	start := func(env string) *exec.Cmd {
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Env = []string{env}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd
	}
	mark := "SANDBOX_TEST_MARK=" + filepath.Base(t.TempDir()) + t.Name()
	marked, other := start(mark+":1/"), start(mark+"x")
	if !endProcesses(func(pid int) bool { return hasEnv(pid, mark+":") }) {
		t.Error("found nothing to end")
	}
	err := marked.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.String() != "signal: killed" {
		t.Errorf("the marked process: %v", err)
	}
	if err := other.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the other process: %v", err)
	}
	if endProcesses(func(pid int) bool { return hasEnv(pid, mark+":") }) {
		t.Error("found the dead again")
	}
}

func TestProcessesAreKnownByUser(t *testing.T) {
	t.Parallel()
	if !ownedBy(os.Getpid(), uint32(os.Getuid())) || ownedBy(os.Getpid(), uint32(os.Getuid())+1) || ownedBy(1<<30, 0) {
		t.Error("ownedBy is wrong about this process")
	}
}
