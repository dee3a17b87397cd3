//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMemoryLimitShowsAsOOM(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newSandbox(t)
	if s.tree.version == 0 {
		t.Fatal("no memory cgroup on this machine")
	}
	hog := func(mib string) *child {
		return startChild(t, s, "hog", func(spec *Spec) { spec.Args, spec.Memory = []string{"hog", mib}, 400<<20 })
	}
	c := hog("700")
	if st := c.wait(t); !st.OOM || st.Signal != unix.SIGKILL || st.Peak < 300<<20 || st.Peak > 401<<20 {
		t.Errorf("700 MiB of 400: %+v", st)
	}
	c = hog("20")
	if got := c.line(t); got != "ready" {
		t.Fatal(got)
	}
	c.Kill()
	if st := c.State(); st.OOM {
		t.Errorf("20 MiB of 400: %+v", st)
	}
}

func TestModesMemoryIsReported(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		c := startChild(t, s, "hog", func(spec *Spec) { spec.Args = []string{"hog", "50"} })
		if got := c.line(t); got != "ready" {
			t.Fatal(got)
		}
		n, err := c.Memory()
		if err != nil || n < 50<<20 || n > 200<<20 {
			t.Errorf("Memory %d, %v", n, err)
		}
		if peak := c.Peak(); peak < 50<<20 {
			t.Errorf("Peak %d", peak)
		}
		c.Kill()
		if _, err := c.Memory(); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("Memory after the end: %v", err)
		}
		if peak := c.Peak(); peak < 50<<20 || c.State().Peak != peak {
			t.Errorf("Peak after the end %d", peak)
		}
	})
}

func TestModesCPUTimeIsReported(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		c := startChild(t, s, "spin")
		if got := c.line(t); got != "ready" {
			t.Fatal(got)
		}
		if used := c.CPUTime(); used < 200*time.Millisecond || used > 3*time.Second {
			t.Errorf("living: %v", used)
		}
		c.Kill()
		if used := c.CPUTime(); used < 200*time.Millisecond || used > 3*time.Second {
			t.Errorf("dead: %v", used)
		}
	})
}

func TestProcessesAreLimited(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newSandbox(t)
	r := reportOf[map[string]any](t, s, "forks", func(spec *Spec) { spec.Pids = 40 })
	if n, _ := r["started"].(float64); n < 5 || n > 40 {
		t.Errorf("%v", r)
	}
	if text, _ := r["error"].(string); !strings.Contains(text, unix.EAGAIN.Error()) {
		t.Errorf("%v", r)
	}
}

func TestModesDescriptorsAreLimited(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		c := startChild(t, s, "shell", func(spec *Spec) {
			spec.Code, spec.Path, spec.NoFile = nil, "/bin/sh", 77
			spec.Args = []string{"sh", "-c", "ulimit -n; ulimit -c"}
		})
		if got := c.output(t); got != "77\n0\n" {
			t.Errorf("limits %q", got)
		}
	})
}

func TestTmpIsLimitedAndGone(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newSandbox(t)
	c := startChild(t, s, "shell", func(spec *Spec) {
		spec.Code, spec.Path, spec.TmpSize = nil, "/bin/sh", 1<<20
		spec.Args = []string{"sh", "-c", "dd if=/dev/zero of=/tmp/full bs=64k count=100 2>&1 | grep -c 'No space'; ls /tmp"}
	})
	if got := c.output(t); !strings.HasPrefix(got, "1\n") || !strings.Contains(got, "full") {
		t.Errorf("filling /tmp: %q", got)
	}
	c = startChild(t, s, "shell", func(spec *Spec) {
		spec.Code, spec.Path = nil, "/bin/sh"
		spec.Args = []string{"sh", "-c", "ls /tmp"}
	})
	if got := c.output(t); strings.Contains(got, "full") {
		t.Errorf("/tmp of the next instance: %q", got)
	}
}
