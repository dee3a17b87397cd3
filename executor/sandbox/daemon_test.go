//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// daemonConfig is the Config of a child that plays the daemon; it gets the data
// directory and the index of the mode by arguments.
func daemonConfig() (Config, []mode) {
	cfg := DefaultConfig()
	cfg.DataDir = os.Args[1]
	i, _ := strconv.Atoi(os.Args[2])
	return cfg, modesFor(os.Geteuid())[i:]
}

// must ends a child program on an error.
func must[T any](v T, err error) T {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return v
}

// childDaemon starts an instance that wants to survive, says so, and waits to be
// killed.
func childDaemon() {
	s := must(newWith(daemonConfig()))
	code := must(os.Open("/proc/self/exe"))
	out, theirs, err := os.Pipe()
	must(out, err)
	p := must(s.start(&Spec{
		Instance: "escape", Code: code, Stdout: theirs, Stderr: os.Stderr,
		Args: []string{"escape", os.Args[3]}, Env: []string{childVariable + "=escape"},
	}, false))
	line := must(bufio.NewReader(out).ReadString('\n'))
	fmt.Printf("%s %s %s\n", strings.TrimSpace(line), s.mode.name, p.Dir())
	<-p.Done()
	fmt.Println("the instance ended by itself")
}

// startDaemon runs a child program outside of any sandbox, in the given mode.
func startDaemon(t *testing.T, program, dataDir string, mode int, more ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	args := append([]string{dataDir, strconv.Itoa(mode)}, more...)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childVariable+"="+program, raceOption)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewReader(out)
}

// TestNothingSurvivesKillOfDaemon is row R19: the child ignores SIGTERM, forks
// twice, starts sessions, closes its descriptors and sheds its mark.
func TestNothingSurvivesKillOfDaemon(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for i, m := range modesFor(os.Geteuid()) {
		if !endsAll(m) {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dataDir := t.TempDir()
			token := "escaped-from-" + strconv.Itoa(i) + "-" + strconv.Itoa(os.Getpid())
			cmd, out := startDaemon(t, "daemon", dataDir, i, token)
			line, err := out.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "ready "+m.name) {
				t.Fatalf("daemon in mode %q says %q, %v", m.name, line, err)
			}
			// The daemon itself has the token too.
			eventually(t, time.Minute, func() error {
				if n := len(withToken(token)); n < 3 {
					return fmt.Errorf("%d processes, want daemon, code and lingering grandchild", n)
				}
				return nil
			})
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if m.namespaces {
				eventually(t, time.Minute, noneWithToken(token))
			}
			// Without a pid namespace, the next daemon ends the rest.
			cfg := DefaultConfig()
			cfg.DataDir = dataDir
			s, err := newWith(cfg, []mode{m})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, time.Minute, noneWithToken(token))
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(dataDir)
			if err != nil || len(entries) > 0 {
				t.Errorf("data directory holds %v, %v", entries, err)
			}
		})
	}
}

// leakReport is what a daemon has at one moment that it could leak.
type leakReport struct {
	Descriptors, Children int
	Mounts, Namespace     string
	Cgroups               []string
	Left                  []string
}

func measureLeaks(id, dataDir string) leakReport {
	var r leakReport
	fds, _ := os.ReadDir("/proc/self/fd")
	r.Descriptors = len(fds)
	r.Children = len((&Process{stage: os.Getpid()}).processes()) - 1
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	r.Mounts = string(mounts)
	r.Namespace, _ = os.Readlink("/proc/self/ns/mnt")
	for _, m := range must(cgroupMounts()) {
		found, _ := filepath.Glob(filepath.Join(m.dir, "covey-"+id))
		r.Cgroups = append(r.Cgroups, found...)
	}
	r.Left, _ = filepath.Glob(filepath.Join(dataDir, "*"))
	return r
}

// childLeaks starts and ends many instances in all the ways there are, some of
// them at the same time, and tells what is left.
func childLeaks() {
	cfg, modes := daemonConfig()
	// Once beforehand, so that what the runtime opens lazily is open.
	must(0, must(newWith(cfg, modes)).Close())
	before := measureLeaks("", cfg.DataDir)
	s := must(newWith(cfg, modes))
	code := must(os.Open("/proc/self/exe"))
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			name := []string{"exit3", "sleep", "escape", "litter"}[i%4]
			spec := Spec{
				Instance: name, Code: code, Args: []string{name, "leak"}, Memory: 256 << 20,
				Env: []string{childVariable + "=" + name, raceOption},
			}
			if i%8 == 1 {
				spec.Path, spec.Code = "/does/not/exist", nil
			}
			p, err := s.start(&spec, false)
			if (err != nil) != (spec.Path != "") {
				fmt.Println("start:", err)
				os.Exit(1)
			}
			if err == nil && i%3 != 0 {
				p.Kill()
			}
		})
	}
	wg.Wait()
	must(0, s.Close())
	_ = code.Close()
	id := s.id
	after := measureLeaks(id, cfg.DataDir)
	answer([]leakReport{before, after})
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for i, m := range modesFor(os.Geteuid()) {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			_, out := startDaemon(t, "leaks", t.TempDir(), i)
			text, err := io.ReadAll(out)
			if err != nil {
				t.Fatal(err)
			}
			var r []leakReport
			if err := json.Unmarshal(text, &r); err != nil || len(r) != 2 {
				t.Fatalf("%v in %q", err, text)
			}
			before, after := r[0], r[1]
			if after.Descriptors > before.Descriptors {
				t.Errorf("%d descriptors, before %d", after.Descriptors, before.Descriptors)
			}
			if after.Children > 0 {
				t.Errorf("%d children are left", after.Children)
			}
			if after.Mounts != before.Mounts || after.Namespace != before.Namespace {
				t.Errorf("mounts changed from\n%s%s\nto\n%s%s", before.Mounts, before.Namespace, after.Mounts, after.Namespace)
			}
			if len(after.Cgroups) > 0 || len(after.Left) > 0 {
				t.Errorf("left behind: %v %v", after.Cgroups, after.Left)
			}
		})
	}
}

// childDescribe prints what New finds, for tests as another user.
func childDescribe() {
	cfg, modes := daemonConfig()
	s := must(newWith(cfg, modes))
	answer(s.Describe())
	must(0, s.Close())
}

// nobody is the user of the tests without root.
const nobody = 65534

// TestUnprivilegedRunsTheSuite runs this package's tests once more as a user who
// is nobody, by descriptor, because the test binary is in a private directory.
func TestUnprivilegedRunsTheSuite(t *testing.T) {
	t.Parallel()
	needRoot(t)
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	dir, err := os.MkdirTemp("", "covey-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestModes", "-test.v", "-test.count=1")
	cmd.Args[0] = "sandbox.test"
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"), "CI=" + os.Getenv("CI"), "GOTRACEBACK=all", raceOption}
	cmd.ExtraFiles = []*os.File{exe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"--- PASS: TestModes", "user_namespace", "landlock"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}
