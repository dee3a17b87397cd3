//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestModesHideTheDaemonAndOthers lets one instance look for everything that
// belongs to the daemon and to another instance.
func TestModesHideTheDaemonAndOthers(t *testing.T) {
	forEachMode(t, hides, func(t *testing.T, s *Sandbox) {
		secrets := []string{"admin.token", "ca.key", "blob/sha256"}
		var targets []string
		for _, name := range secrets {
			path := filepath.Join(s.cfg.DataDir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			// The mode is not what protects them here.
			mode := os.FileMode(0o644)
			if !s.mode.namespaces {
				mode = 0o600
			}
			if err := os.WriteFile(path, []byte("secret"), mode); err != nil {
				t.Fatal(err)
			}
			targets = append(targets, path)
		}
		other := startChild(t, s, "serve", func(spec *Spec) { spec.Env = append(spec.Env, "PASSWORD=of-another-instance") })
		if got := other.line(t); got != "ready" {
			t.Fatal(got)
		}
		targets = append(targets, s.cfg.DataDir, s.runDir, other.Dir(), filepath.Join(other.Dir(), "plugin.sock"),
			"unix:"+filepath.Join(other.Dir(), "plugin.sock"), "/root", "/etc/shadow",
			fmt.Sprintf("pid:%d", other.Pid()), fmt.Sprintf("pid:%d", os.Getpid()))
		for _, pid := range []int{other.Pid(), os.Getpid()} {
			for _, name := range []string{"environ", "mem", "fd/0", "root", "cwd/plugin.sock"} {
				targets = append(targets, fmt.Sprintf("/proc/%d/%s", pid, name))
			}
		}
		r := reportOf[spyReport](t, s, "spy", func(spec *Spec) { spec.Args = append([]string{"spy"}, targets...) })
		for target, what := range r.Attempts {
			if what == "succeeded" && !harmless(s, target, r) {
				t.Errorf("%s: %s", target, what)
			}
		}
		if strings.Contains(r.Environs, "PASSWORD") || strings.Contains(r.Environs, "PATH=") {
			t.Errorf("read environments of others: %q", r.Environs)
		}
		if s.mode.namespaces && (r.Processes != 2 || r.Pid != 2 || r.Hostname != hostname) {
			t.Errorf("sees %d processes, is number %d on %q", r.Processes, r.Pid, r.Hostname)
		}
		if s.mode.uids && (r.UID < int(s.cfg.UIDBase) || r.GID != r.UID || r.UID == int(s.slots.uid(other.berth.slot))) {
			t.Errorf("user %d, group %d", r.UID, r.GID)
		}
	})
}

// harmless tells whether a target that was reached is the instance's own: in
// another pid namespace small numbers are other processes, and with a data
// directory in /tmp an instance sees the empty path to its own directory.
func harmless(s *Sandbox, target string, r spyReport) bool {
	if s.mode.landlock && !s.mode.uids && landlockABI() < landlockUnixABI && strings.HasPrefix(target, "unix:") {
		return true // the gap that Describe warns of
	}
	own := strings.HasPrefix(r.Dir, target+"/")
	return s.mode.namespaces && (own || target == fmt.Sprintf("pid:%d", r.Pid) || strings.HasPrefix(target, "/proc/2/"))
}

func TestModesNetworkIsLoopbackAlone(t *testing.T) {
	forEachMode(t, namespaced, func(t *testing.T, s *Sandbox) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		abstract := "covey-test-" + s.id
		al, err := net.Listen("unix", "@"+abstract)
		if err != nil {
			t.Fatal(err)
		}
		defer al.Close()
		targets := []string{"spy", "tcp:" + l.Addr().String(), "unix:@" + abstract}
		r := reportOf[spyReport](t, s, "spy", func(spec *Spec) { spec.Args = targets })
		for _, target := range targets[1:] {
			if r.Attempts[target] == "succeeded" {
				t.Errorf("reached %s of the host", target)
			}
		}
		if strings.Join(r.Interfaces, " ") != "lo" {
			t.Errorf("interfaces %v", r.Interfaces)
		}
		r = reportOf[spyReport](t, s, "spy", func(spec *Spec) { spec.Args, spec.Network = targets, true })
		for _, target := range targets[1:] {
			if r.Attempts[target] != "succeeded" {
				t.Errorf("with the host's network, %s: %s", target, r.Attempts[target])
			}
		}
	})
}

// TestModesLoopbackIsPrivate runs two instances that listen on the same name.
func TestModesLoopbackIsPrivate(t *testing.T) {
	forEachMode(t, namespaced, func(t *testing.T, s *Sandbox) {
		for range 2 {
			c := startChild(t, s, "abstract", func(spec *Spec) { spec.Args = []string{"abstract", "same-name"} })
			if got := c.line(t); got != "ready" {
				t.Error(got)
			}
		}
	})
}

func TestModesFilterRefuses(t *testing.T) {
	forEachMode(t, func(m mode) bool { return m.seccomp }, func(t *testing.T, s *Sandbox) {
		r := reportOf[map[string]string](t, s, "forbidden")
		for call, what := range r {
			want := "denied"
			switch call {
			case "clone3", "io_uring":
				want = unix.ENOSYS.Error()
			case "clone user", "bpf", "keyctl", "tiocsti":
				want = unix.EPERM.Error()
			}
			if what != want {
				t.Errorf("%s: %s, want %s", call, what, want)
			}
		}
	})
}

func TestModesProcessOneIsOutOfReach(t *testing.T) {
	forEachMode(t, namespaced, func(t *testing.T, s *Sandbox) {
		r := reportOf[map[string]string](t, s, "suicide")
		if r["trace 1"] == "succeeded" || r["mem 1"] == "succeeded" {
			t.Errorf("process 1 can be taken over: %v", r)
		}
	})
}

func TestModesOrphansAreReaped(t *testing.T) {
	forEachMode(t, namespaced, func(t *testing.T, s *Sandbox) {
		r := reportOf[map[string]int](t, s, "orphans")
		if r["living"] != 2 || r["zombies"] != 0 {
			t.Errorf("%v", r)
		}
	})
}
