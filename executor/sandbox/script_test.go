//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stageProgram writes the stage to a file and returns its path.
func stageProgram(t *testing.T) string {
	t.Helper()
	text, err := stageELF()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "stage")
	if err := writeProgram(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// perform runs a script by the stage, with reports on descriptor 3.
func perform(t *testing.T, s *script) (stdout string, report []byte, err error) {
	t.Helper()
	text, err := s.encode(3)
	if err != nil {
		t.Fatal(err)
	}
	file, err := scriptFile(text)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(stageProgram(t))
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = file, &out, []*os.File{w}
	err = cmd.Run()
	_ = w.Close()
	report = make([]byte, failureSize)
	n, _ := r.Read(report)
	return out.String(), report[:n], err
}

func TestStageIsAStaticProgramWithoutWritableText(t *testing.T) {
	t.Parallel()
	f, err := elf.Open(stageProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
			t.Errorf("segment %+v", p.ProgHeader)
		}
	}
	if len(f.Progs) != 3 {
		t.Errorf("%d segments", len(f.Progs))
	}
}

func TestStagePerformsStepsJumpsAndReports(t *testing.T) {
	t.Parallel()
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		s := newScript()
		s.sys("say", unix.SYS_WRITE, 1, s.str("one "), 4)
		s.sys("fail", unix.SYS_CLOSE, 99).optional = true
		s.sys("say", unix.SYS_WRITE, 1, s.str("two"), 3)
		s.sys("exit", unix.SYS_EXIT_GROUP, 5)
		out, report, err := perform(t, s)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 5 || out != "one two" || len(report) > 0 {
			t.Errorf("%q, report %v, %v", out, report, err)
		}
	})
	t.Run("jump", func(t *testing.T) {
		t.Parallel()
		s := newScript()
		s.sys("no jump", unix.SYS_CLOSE, 0).want = 7
		at := s.sys("jump", unix.SYS_WRITE, 1, s.str("abc"), 3)
		at.want, at.target = 3, s.next()+1
		s.sys("not this", unix.SYS_EXIT_GROUP, 1)
		s.sys("this", unix.SYS_EXIT_GROUP, 0)
		if out, report, err := perform(t, s); err != nil || out != "abc" || len(report) > 0 {
			t.Errorf("%q, report %v, %v", out, report, err)
		}
	})
	t.Run("failure", func(t *testing.T) {
		t.Parallel()
		s := newScript()
		s.sys("fine", unix.SYS_CLOSE, 0)
		s.sys("open a file", unix.SYS_OPENAT, atCWD, s.str("/does/not/exist"), 0, 0)
		s.sys("never", unix.SYS_EXIT_GROUP, 0)
		_, report, err := perform(t, s)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 127 || len(report) != failureSize {
			t.Fatalf("report %v, %v", report, err)
		}
		failure := s.failure(report)
		if setup, ok := errors.AsType[*SetupError](failure); !ok || setup.Step != "open a file" || !errors.Is(failure, unix.ENOENT) {
			t.Errorf("failure %v", failure)
		}
	})
	t.Run("exec with arguments", func(t *testing.T) {
		t.Parallel()
		s := newScript()
		s.sys("exec", unix.SYS_EXECVE, s.str("/bin/sh"), s.strs([]string{"sh", "-c", "echo $A $0", "name"}), s.strs([]string{"A=b"}))
		if out, _, err := perform(t, s); err != nil || out != "b name\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
}

func TestScriptHasLimits(t *testing.T) {
	t.Parallel()
	s := newScript()
	s.str(strings.Repeat("x", scriptSize))
	if _, err := s.encode(3); !errors.Is(err, unix.E2BIG) {
		t.Errorf("too much data: %v", err)
	}
	s = newScript()
	for range stepsMax + 1 {
		s.sys("step", unix.SYS_GETPID)
	}
	if _, err := s.encode(3); !errors.Is(err, unix.E2BIG) {
		t.Errorf("too many steps: %v", err)
	}
	var report [failureSize]byte
	binary.LittleEndian.PutUint64(report[:], 12)
	if err := newScript().failure(report[:]); err == nil {
		t.Error("a report of no step is no error")
	}
}

func TestLocalScriptRunsInTheCaller(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newLocalScript()
	s.mkdirs(dir, []string{"/a", "/a/b", "/a"})
	s.touch(dir + "/a/b/c")
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a/b/c")); err != nil {
		t.Error(err)
	}
	s.sys("close nothing", unix.SYS_CLOSE, 1<<20)
	if setup, ok := errors.AsType[*SetupError](s.run()); !ok || setup.Step != "close nothing" {
		t.Errorf("%v", setup)
	}
	s.put(make([]byte, 1<<17)) // moves the data
	if err := s.run(); !errors.Is(err, unix.E2BIG) {
		t.Errorf("script with moved data: %v", err)
	}
}

// TestPowerIsGivenUpInOrder holds the order of the steps that doc.go promises.
func TestPowerIsGivenUpInOrder(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{modesFor(0)[0], modesFor(0)[1], modesFor(nobody)[0], modesFor(0)[3]} {
		layout := hostLayout("/run/covey", nil)
		p := &plan{
			mode: m, spec: &Spec{Instance: "x", Path: "/bin/true", NoFile: 10, Pids: 10}, dir: os.TempDir(), uid: 700000,
			root: "/run/covey/.root", layout: &layout, filter: filterProgram(),
		}
		if m.template {
			p.mode.template = false // attaching needs a real directory and root
		}
		if err := p.descriptors(os.Stdin, os.Stdin, os.Stdin); err != nil {
			t.Fatal(err)
		}
		if err := p.write(); err != nil {
			t.Fatal(err)
		}
		last := -1
		for _, name := range []string{
			"set death signal", "mount proc", "drop old root", "limit descriptors", "hide process 1", "fork", "start session", "reset signals",
			"set user", "drop capabilities", "set no_new_privs", "mark descriptors", "load system call filter",
			"greet the daemon", "exec",
		} {
			at := -1
			for i, st := range p.script.steps {
				if st.name == name {
					at = i
				}
			}
			if at < 0 && (m.namespaces && name != "set user" && name != "drop capabilities") {
				t.Errorf("%s: no step %q", m.name, name)
			}
			if at >= 0 && at < last && (m.namespaces || name != "set death signal") {
				t.Errorf("%s: %q comes too early", m.name, name)
			}
			if at >= 0 && (m.namespaces || name != "set death signal") {
				last = at
			}
		}
	}
}
