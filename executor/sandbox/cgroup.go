//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// remove ends everything below the tree and removes it.
func (t cgroupTree) remove() {
	for _, dir := range t.dirs {
		removeCgroups(dir)
	}
}

// removeCgroups ends every process below dir and removes dir; what cannot be
// removed (a daemon's directory that is in use) stays. It reports whether there
// was a process.
func removeCgroups(dir string) (ended bool) {
	children, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, child := range children {
		if child.IsDir() {
			ended = endCgroup(filepath.Join(dir, child.Name())) || ended
		}
	}
	_ = os.Remove(dir)
	return ended
}

// endCgroup kills what is in the cgroup, waits for it to be gone, and removes the
// directory. Version 2 has a file for the killing; in version 1 a pids limit of
// zero keeps a fork bomb from outrunning the signals, where there is one.
func endCgroup(dir string) (ended bool) {
	deadline := time.Now().Add(2 * time.Second)
	_ = writeFile(filepath.Join(dir, "cgroup.kill"), "1")
	_ = writeFile(filepath.Join(dir, "pids.max"), "0")
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		for _, pid := range cgroupPids(dir) {
			ended = true
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return ended
		}
		// A dead process leaves its cgroup a moment after its parent was told.
		<-time.After(wait)
	}
}

func cgroupPids(dir string) []int {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(text)) {
		// Zero stands for a process outside of our pid namespace.
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cgroup is one instance's.
type cgroup struct {
	version int
	dirs    map[string]string
	join    []*os.File // v1: the tasks of each hierarchy, v2: the directory
}

// create makes a cgroup without limits. It returns nil when there are no cgroups.
func (t cgroupTree) create(name string) (*cgroup, error) {
	if t.version == 0 {
		return nil, nil
	}
	c := &cgroup{version: t.version, dirs: make(map[string]string, len(t.dirs))}
	for controller, parent := range t.dirs {
		dir := filepath.Join(parent, "i-"+name)
		if err := unix.Mkdir(dir, 0o755); err != nil {
			c.remove()
			return nil, &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
		c.dirs[controller] = dir
		// Not cgroup.procs: moving a process as a whole makes the kernel wait until no
		// other one forks, which is an RCU grace period of 10 ms and more. The stage
		// moves itself, and has one thread.
		path, flags := filepath.Join(dir, "tasks"), unix.O_WRONLY
		if c.version == 2 {
			path, flags = dir, unix.O_PATH|unix.O_DIRECTORY
		}
		f, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			c.remove()
			return nil, err
		}
		c.join = append(c.join, f)
	}
	return c, nil
}

// limit sets the limits; a nil cgroup has none, and a memory of 0 means that.
func (c *cgroup) limit(memory int64, pids int) error {
	err := c.limitMemory(memory)
	if c == nil || c.version == 1 {
		return err
	}
	if pidsErr := c.set("", "pids.max", int64(pids)); !errors.Is(pidsErr, fs.ErrNotExist) {
		err = errors.Join(err, pidsErr)
	}
	return err
}

// limitMemory sets the limit of memory alone.
func (c *cgroup) limitMemory(memory int64) error {
	if c == nil || memory <= 0 {
		return nil
	}
	if c.version == 1 {
		err := c.set("memory", "memory.limit_in_bytes", memory)
		_ = c.set("memory", "memory.memsw.limit_in_bytes", memory) // where swap is counted
		return err
	}
	err := c.set("", "memory.max", memory)
	// Without swap, and as a whole: half an instance is of no use.
	_ = c.set("", "memory.swap.max", 0)
	_ = c.set("", "memory.oom.group", 1)
	return err
}

// set writes a control file of the given controller's hierarchy.
func (c *cgroup) set(controller, file string, value int64) error {
	return writeFile(filepath.Join(c.dirs[controller], file), strconv.FormatInt(value, 10))
}

// closeJoin closes what only a start needs.
func (c *cgroup) closeJoin() {
	if c == nil {
		return
	}
	for _, f := range c.join {
		_ = f.Close()
	}
	c.join = nil
}

// remove ends what is left in the cgroup and removes it.
func (c *cgroup) remove() {
	if c == nil {
		return
	}
	c.closeJoin()
	for _, dir := range c.dirs {
		endCgroup(dir)
	}
}

// memory returns the memory in use that the kernel could not simply drop.
func (c *cgroup) memory() (int64, error) {
	usage, inactive, dir := "memory.current", "inactive_file", c.dirs[""]
	if c.version == 1 {
		usage, inactive, dir = "memory.usage_in_bytes", "total_inactive_file", c.dirs["memory"]
	}
	used, err := readInt(filepath.Join(dir, usage))
	if err != nil {
		return 0, err
	}
	droppable, err := readKey(filepath.Join(dir, "memory.stat"), inactive)
	return max(0, used-droppable), err
}

// peak returns the most memory that was in use, 0 when the kernel does not say.
func (c *cgroup) peak() int64 {
	path := filepath.Join(c.dirs[""], "memory.peak")
	if c.version == 1 {
		path = filepath.Join(c.dirs["memory"], "memory.max_usage_in_bytes")
	}
	n, _ := readInt(path)
	return n
}

// cpu returns the CPU time of everything that ever ran here.
func (c *cgroup) cpu() (time.Duration, error) {
	if c.version == 1 {
		return 0, errors.ErrUnsupported
	}
	n, err := readKey(filepath.Join(c.dirs[""], "cpu.stat"), "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// oom tells whether the kernel killed something here for its memory.
func (c *cgroup) oom() bool {
	path := filepath.Join(c.dirs[""], "memory.events")
	if c.version == 1 {
		path = filepath.Join(c.dirs["memory"], "memory.oom_control")
	}
	n, _ := readKey(path, "oom_kill")
	return n > 0
}

// writeFile writes a control file, which must exist: in a cgroup file system
// O_CREATE and O_TRUNC mean nothing, elsewhere they would hide a mistake.
func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readInt(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// readKey reads one line of a flat-keyed file.
func readKey(path, key string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), " "); name == key {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %q", path, key)
}
