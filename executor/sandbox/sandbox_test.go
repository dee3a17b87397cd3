//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/covey-dev/covey/internal/forks"
)

// The tests named TestModes… run in every mode that a user can have, and once
// more as nobody (TestUnprivilegedRunsTheSuite).

func TestModesExitCodeAndSignal(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		if st := startChild(t, s, "exit3").wait(t); st.Code != 3 || st.Signal != 0 || !st.Exited || st.OOM {
			t.Errorf("exit 3 gives %+v", st)
		}
		// Default actions of signals, which process 1 of a pid namespace has not.
		for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGABRT, unix.SIGSEGV, unix.SIGPIPE, unix.SIGHUP, unix.SIGUSR2, unix.SIGKILL} {
			c := startChild(t, s, "shell", func(spec *Spec) {
				spec.Code, spec.Path = nil, "/bin/sh"
				spec.Args = []string{"sh", "-c", fmt.Sprintf("kill -%d $$; exit 7", sig)}
			})
			if st := c.wait(t); st.Signal != sig || st.Code != -1 {
				t.Errorf("%v gives %+v", sig, st)
			}
		}
	})
}

func TestModesSignalReachesTheCode(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		c := startChild(t, s, "sleep")
		if got := c.line(t); got != "ready" {
			t.Fatal(got)
		}
		if err := c.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if st := c.wait(t); st.Signal != unix.SIGTERM && st.Code != 2 {
			t.Errorf("SIGTERM gives %+v", st)
		}
		if err := c.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
		c.Kill() // late, and harmless
	})
}

func TestModesOnlyGivenDescriptorsAndEnvironment(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		// A descriptor of the daemon that is not even close-on-exec.
		leaky, err := os.Open("/etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		defer leaky.Close()
		var ends [2][2]int
		for i := range ends {
			if err := unix.Pipe2(ends[i][:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
		three, four := os.NewFile(uintptr(ends[0][0]), "three"), os.NewFile(uintptr(ends[1][1]), "four")
		defer three.Close()
		defer four.Close()
		defer unix.Close(ends[0][1])
		defer unix.Close(ends[1][0])
		r := reportOf[spyReport](t, s, "spy", func(spec *Spec) {
			spec.Files = []*os.File{three, four}
			spec.Env = append(spec.Env, "GREETING=hello")
		})
		name := func(f *os.File) string {
			link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			return link
		}
		want := map[string]string{"0": "/dev/null", "1": r.Descriptors["1"], "2": r.Descriptors["1"], "3": name(three), "4": name(four)}
		if diff := cmp.Diff(want, r.Descriptors); diff != "" {
			t.Errorf("descriptors (-want +got):\n%s", diff)
		}
		env := slices.DeleteFunc(r.Env, func(v string) bool { return strings.HasPrefix(v, markerName) })
		tmp := "/tmp"
		if !s.mode.namespaces {
			tmp = r.Dir + "/tmp"
		}
		wantEnv := []string{childVariable + "=spy", raceOption, "GREETING=hello", "HOME=" + r.Dir, "TMPDIR=" + tmp}
		if diff := cmp.Diff(wantEnv, env); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
		if s.mode.seccomp && (r.NoNewPrivs != "1" || r.Seccomp != "2") || strings.Trim(r.Capabilities, "0") != "" && s.mode.name != "process group" {
			t.Errorf("no_new_privs %q, seccomp %q, capabilities %q", r.NoNewPrivs, r.Seccomp, r.Capabilities)
		}
	})
}

func TestModesKillEndsDescendants(t *testing.T) {
	forEachMode(t, endsAll, func(t *testing.T, s *Sandbox) {
		token := fmt.Sprintf("killed-%d-%s", os.Getpid(), s.id)
		c := startChild(t, s, "escape", func(spec *Spec) { spec.Args = []string{"escape", token} })
		if got := c.line(t); got != "ready" {
			t.Fatal(got)
		}
		// The directory's name may be another's soon, so look for a file in it.
		mark := filepath.Join(c.Dir(), "mark")
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c.Kill()
		if err := noneWithToken(token)(); err != nil {
			t.Errorf("when Kill has returned, %v", err)
		}
		if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("file in the private directory after Kill: %v", err)
		}
		if st := c.State(); st.Signal != unix.SIGKILL {
			t.Errorf("state after Kill: %+v", st)
		}
	})
}

func TestModesExitOfCodeEndsDescendants(t *testing.T) {
	forEachMode(t, endsAll, func(t *testing.T, s *Sandbox) {
		token := fmt.Sprintf("left-%d-%s", os.Getpid(), s.id)
		c := startChild(t, s, "shell", func(spec *Spec) {
			spec.Code, spec.Path = nil, "/bin/sh"
			spec.Args = []string{"sh", "-c", "setsid sh -c 'sleep 1000; true' " + token + " & exit 5"}
		})
		if st := c.wait(t); st.Code != 5 {
			t.Errorf("%+v", st)
		}
		if err := noneWithToken(token)(); err != nil {
			t.Errorf("after Done, %v", err)
		}
	})
}

func TestModesSocketInDirIsReachable(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		c := startChild(t, s, "serve")
		if got := c.line(t); got != "ready" {
			t.Fatal(got)
		}
		conn, err := net.Dial("unix", filepath.Join(c.Dir(), "plugin.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if text, err := io.ReadAll(conn); string(text) != "hello" {
			t.Errorf("socket says %q, %v", text, err)
		}
	})
}

func TestModesWritableIsPrivateAndRemoved(t *testing.T) {
	forEachMode(t, hides, func(t *testing.T, s *Sandbox) {
		c := startChild(t, s, "litter")
		text := c.output(t)
		dir := c.Dir()
		if st := c.wait(t); st.Code != 0 {
			t.Fatalf("%+v: %s", st, text)
		}
		wants := []string{
			`"` + dir + `":"written"`, `"/usr":"refused"`, `"/etc":"refused"`, `"/":"refused"`,
			`"/proc/sys/kernel":"refused"`, `"umask":"022"`,
		}
		if !s.mode.userns { // there the private /tmp may hold the place of the directory
			wants = append(wants, `"`+filepath.Dir(dir)+`":"refused"`)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s not in %s", want, text)
			}
		}
		c.Kill()
		if _, err := os.Lstat(filepath.Join(dir, "locked")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("directory with a locked subdirectory: %v", err)
		}
		if _, err := os.Stat(filepath.Join(os.TempDir(), "litter")); err == nil {
			t.Error("the instance wrote into the host's temporary directory")
		}
	})
}

func TestModesSetupErrorNamesTheStep(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		text := filepath.Join(t.TempDir(), "text")
		if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
			t.Fatal(err)
		}
		code, err := os.Open(text)
		if err != nil {
			t.Fatal(err)
		}
		defer code.Close()
		_, err = s.Start(t.Context(), Spec{Instance: "text", Code: code})
		if setup, ok := errors.AsType[*SetupError](err); !ok || setup.Step != "exec" || !errors.Is(err, unix.ENOEXEC) {
			t.Errorf("start of a text file: %v", err)
		}
		_, err = s.Start(t.Context(), Spec{Instance: "absent", Path: "/usr/bin/absent-program"})
		if !errors.Is(err, unix.ENOENT) {
			t.Errorf("start of an absent path: %v", err)
		}
	})
}

func TestModesScriptByDescriptor(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho $1 from $0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		forks.Settle(path)
		code, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer code.Close()
		c := startChild(t, s, "script", func(spec *Spec) { spec.Code, spec.Args = code, []string{"script", "hello"} })
		if got := c.output(t); got != "hello from /dev/fd/3\n" {
			t.Errorf("script says %q", got)
		}
	})
}

// Not for another user without a mount namespace, who cannot pass the test's
// private directories.
func TestModesReadPaths(t *testing.T) {
	forEachMode(t, func(m mode) bool { return m.namespaces || m.landlock && !m.uids }, func(t *testing.T, s *Sandbox) {
		dir := t.TempDir()
		shown, hidden := filepath.Join(dir, "shown"), filepath.Join(dir, "hidden")
		for _, path := range []string{shown, hidden} {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		r := reportOf[spyReport](t, s, "spy", func(spec *Spec) {
			spec.ReadPaths = []string{shown, file, "/usr/bin"}
			spec.Args = []string{"spy", shown, hidden, file}
		})
		if r.Attempts[shown] != "succeeded" || r.Attempts[file] != "succeeded" || r.Attempts[hidden] == "succeeded" {
			t.Errorf("attempts: %v", r.Attempts)
		}
	})
}

func TestLinksLeadToWhatIsShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Links = t.TempDir(), [][2]string{{dir, "/var/linked"}}
	s, err := newWith(cfg, modesFor(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if !s.mode.namespaces {
		t.Skip("needs a root directory of its own")
	}
	for _, shown := range []bool{true, false} {
		r := reportOf[spyReport](t, s, "spy", func(spec *Spec) {
			if shown {
				spec.ReadPaths = []string{dir}
			}
			spec.Args = []string{"spy", "/var/linked/file"}
		})
		if got := r.Attempts["/var/linked/file"] == "succeeded"; got != shown {
			t.Errorf("shown %v: attempts %v", shown, r.Attempts)
		}
	}
}

func TestModesManyAtOnce(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				c := startChild(t, s, "exit3", func(spec *Spec) { spec.Instance = fmt.Sprintf("i%d", i) })
				select {
				case <-c.Done():
				case <-time.After(time.Minute):
					t.Error("an instance does not end")
				}
				if st := c.State(); st.Code != 3 {
					t.Errorf("%+v", st)
				}
			})
		}
		wg.Wait()
	})
}

func TestStartRefusesBadSpecs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for name, spec := range map[string]Spec{
		"no name":           {Path: "/bin/true"},
		"name with a slash": {Instance: "../x", Path: "/bin/true"},
		"no program":        {Instance: "x"},
		"two programs":      {Instance: "x", Path: "/bin/true", Code: os.Stdin},
		"relative path":     {Instance: "x", Path: "true"},
		"zero byte":         {Instance: "x", Path: "/bin/true", Env: []string{"A=\x00B=1"}},
		"negative memory":   {Instance: "x", Path: "/bin/true", Memory: -1},
		"unclean read path": {Instance: "x", Path: "/bin/true", ReadPaths: []string{"/usr/../"}},
		"whole host":        {Instance: "x", Path: "/bin/true", ReadPaths: []string{"/"}},
		"above the data":    {Instance: "x", Path: "/bin/true", ReadPaths: []string{filepath.Dir(s.cfg.DataDir)}},
		"data directory":    {Instance: "x", Path: "/bin/true", ReadPaths: []string{s.cfg.DataDir}},
	} {
		if p, err := s.Start(t.Context(), spec); err == nil {
			p.Kill()
			t.Errorf("%s: started", name)
		}
	}
	if _, err := s.Start(t.Context(), Spec{Instance: "x", Path: "/bin/true", MinLevel: LevelLimited + 1}); !errors.Is(err, ErrLevel) {
		t.Errorf("too high a level: %v", err)
	}
}

func TestLifeCycle(t *testing.T) {
	t.Parallel()
	s, beside := newSandbox(t), newSandbox(t)
	p, err := s.Start(t.Context(), Spec{Instance: "sleeper", Path: "/bin/sleep", Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("Close returned before an instance was gone")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Start(t.Context(), Spec{Instance: "late", Path: "/bin/true"}); !errors.Is(err, ErrClosed) {
		t.Errorf("start after Close: %v", err)
	}
	startChild(t, beside, "exit3").wait(t)
}

func TestOneSandboxPerDataDirectory(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := startChild(t, s, "sleep")
	if second, err := New(s.cfg); err == nil {
		t.Errorf("a second sandbox of one data directory: %v", second.Close())
	}
	select {
	case <-c.Done():
		t.Error("the attempt ended an instance of the first")
	default:
	}
}

func TestUserIDsRunOut(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cfg := DefaultConfig()
	cfg.DataDir, cfg.UIDCount = t.TempDir(), 2
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	spec := Spec{Instance: "sleeper", Path: "/bin/sleep", Args: []string{"sleep", "1000"}}
	var last *Process
	for range 2 {
		if last, err = s.Start(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Start(t.Context(), spec); !errors.Is(err, ErrNoUID) {
		t.Errorf("third of two: %v", err)
	}
	last.Kill()
	if _, err := s.Start(t.Context(), spec); err != nil {
		t.Errorf("start after an end: %v", err)
	}
}
