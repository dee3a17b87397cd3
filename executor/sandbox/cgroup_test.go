//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseCgroupMounts(t *testing.T) {
	t.Parallel()
	const (
		v1 = `36 25 0:31 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
37 25 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
38 25 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
`
		v2        = "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
		container = "40 24 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
	)
	for _, tc := range []struct {
		name, mounts, own string
		want              []cgroupMount
	}{
		{
			name: "hybrid", mounts: v1, own: "4:memory:/system.slice/covey.service\n3:cpu,cpuacct:/\n0::/system.slice/covey.service\n",
			want: []cgroupMount{
				{1, []string{"memory"}, "/sys/fs/cgroup/memory/system.slice/covey.service", "/sys/fs/cgroup/memory"},
				{2, nil, "/sys/fs/cgroup/unified/system.slice/covey.service", "/sys/fs/cgroup/unified"},
			},
		},
		{
			name: "unified", mounts: v2, own: "0::/system.slice/covey.service\n",
			want: []cgroupMount{{2, nil, "/sys/fs/cgroup/system.slice/covey.service", "/sys/fs/cgroup"}},
		},
		{
			name: "part of a hierarchy", mounts: container, own: "5:memory:/docker/abc/inner\n",
			want: []cgroupMount{{1, []string{"memory"}, "/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"}},
		},
		{name: "not in a mounted one", mounts: v1, own: "3:cpu,cpuacct:/\n"},
		{name: "garbage", mounts: "x - y\n\n1 2 3 4 5 - cgroup\n", own: "::\nx\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := parseCgroupMounts(tc.mounts, tc.own)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(cgroupMount{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// fakeV2 makes the files of a version 2 cgroup in an ordinary directory: on
// machines that mount version 1 the real ones are not to be had.
func fakeV2(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestVersion2Limits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &cgroup{version: 2, dirs: map[string]string{"": dir}}
	fakeV2(t, dir, map[string]string{"memory.max": "", "memory.swap.max": "", "memory.oom.group": "", "pids.max": ""})
	if err := c.limit(64<<20, 99); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "99",
	} {
		if got := read(t, dir, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// Without a pids controller the limit per user has to do.
	if err := os.Remove(filepath.Join(dir, "pids.max")); err != nil {
		t.Fatal(err)
	}
	if err := c.limit(0, 99); err != nil {
		t.Errorf("without pids controller: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "memory.max")); err != nil {
		t.Fatal(err)
	}
	if err := c.limit(1, 99); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a memory limit that cannot be set: %v", err)
	}
}

func TestVersion2Readings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &cgroup{version: 2, dirs: map[string]string{"": dir}}
	fakeV2(t, dir, map[string]string{
		"memory.current": "5000\n", "memory.peak": "9000\n", "memory.stat": "anon 1\ninactive_file 1500\n",
		"memory.events": "low 0\noom 3\noom_kill 0\n", "cpu.stat": "usage_usec 2500\nuser_usec 1\n",
	})
	if n, err := c.memory(); n != 3500 || err != nil {
		t.Errorf("memory %d, %v", n, err)
	}
	if n := c.peak(); n != 9000 {
		t.Errorf("peak %d", n)
	}
	if d, err := c.cpu(); d != 2500*time.Microsecond || err != nil {
		t.Errorf("cpu %v, %v", d, err)
	}
	if c.oom() {
		t.Error("oom without a kill")
	}
	fakeV2(t, dir, map[string]string{"memory.events": "oom_kill 1\n"})
	if !c.oom() {
		t.Error("no oom in spite of a kill")
	}
}

func TestVersion2IsPrepared(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir := filepath.Join(base, "covey-1")
	fakeV2(t, base, map[string]string{"cgroup.controllers": "cpu pids\n"})
	if err := prepareV2(base, dir); err == nil || !strings.Contains(err.Error(), "no memory controller") {
		t.Errorf("without memory: %v", err)
	}
	fakeV2(t, base, map[string]string{"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": ""})
	fakeV2(t, dir, map[string]string{"cgroup.subtree_control": ""})
	if err := prepareV2(base, dir); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{base, dir} {
		if got := read(t, d, "cgroup.subtree_control"); !strings.HasPrefix(got, "+") {
			t.Errorf("%s hands down %q", d, got)
		}
	}
	// A controller that is named as a part of another word is not there.
	fakeV2(t, base, map[string]string{"cgroup.controllers": "memoryless\n"})
	if err := prepareV2(base, dir); err == nil {
		t.Error("memoryless passes for memory")
	}
}

// TestVersion2KillsAndRemoves uses the machine's own version 2 hierarchy, which
// needs no controller for this.
func TestVersion2KillsAndRemoves(t *testing.T) {
	t.Parallel()
	needRoot(t)
	mounts, err := cgroupMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.version != 2 {
			continue
		}
		s := newSandbox(t, mode{name: "version 2 without namespaces", uids: true, seccomp: true})
		tree := cgroupTree{version: 2, dirs: map[string]string{"": filepath.Join(m.dir, "covey-test-"+s.id)}}
		if err := os.Mkdir(tree.dirs[""], 0o755); err != nil {
			t.Fatal(err)
		}
		defer tree.remove()
		c, err := tree.create("one")
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.berths.take()
		if err != nil {
			t.Fatal(err)
		}
		b.cgroup.remove()
		b.cgroup = c
		// An unlimited instance that joins by the clone call.
		token := "version-2-" + s.id
		p, err := s.startIn(b, &Spec{
			Instance: "two", Path: "/bin/sh", Pids: 100, NoFile: 100,
			Args: []string{"sh", "-c", "setsid sleep 1000 & sleep 1000", token},
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, func() error {
			if len(cgroupPids(c.dirs[""])) < 2 {
				return errors.New("not in the cgroup yet")
			}
			return nil
		})
		p.Kill()
		if err := noneWithToken(token)(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(c.dirs[""]); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cgroup after Kill: %v", err)
		}
		return
	}
	t.Log("this machine has no version 2 hierarchy")
}
