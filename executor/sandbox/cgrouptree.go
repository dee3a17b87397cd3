//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupTree is where this daemon's instances get their cgroups: one directory
// per instance in each of dirs. Version 2 has a single hierarchy, version 1 one
// per controller. The zero value means that there are no cgroups to be had.
type cgroupTree struct {
	version int
	dirs    map[string]string // controller → the daemon's directory; v2: "" → directory
}

// v1Controllers are the hierarchies joined under version 1. Each costs every start
// a move of some 50 µs, so there is one: under version 1 the daemon is root, and
// the limit of processes per user does what the pids controller would.
var v1Controllers = []string{"memory"}

// v2Controllers are enabled for the instances under version 2.
var v2Controllers = []string{"memory", "pids", "cpu"}

// cgroupMount is a mounted hierarchy and the daemon's place in it.
type cgroupMount struct {
	version     int
	controllers []string
	dir         string // the directory of the daemon's own cgroup
	root        string // the mount point
}

// openCgroups makes the daemon's directories named name, preferring version 2.
// The error says why no memory limit can be had.
func openCgroups(parent, name string) (cgroupTree, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return cgroupTree{}, err
	}
	errs := []error{errors.New("no memory controller is mounted")}
	for _, m := range mounts {
		base := m.dir
		if parent != "" {
			base = filepath.Join(m.root, parent)
		}
		if m.version == 2 {
			dir := filepath.Join(base, name)
			if err := prepareV2(base, dir); err != nil {
				errs = append(errs, err)
				continue
			}
			return cgroupTree{version: 2, dirs: map[string]string{"": dir}}, nil
		}
	}
	tree := cgroupTree{version: 1, dirs: map[string]string{}}
	for _, m := range mounts {
		if m.version != 1 {
			continue
		}
		base := m.dir
		if parent != "" {
			base = filepath.Join(m.root, parent)
		}
		for _, controller := range m.controllers {
			dir := filepath.Join(base, name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				errs = append(errs, err)
				continue
			}
			tree.dirs[controller] = dir
		}
	}
	if tree.dirs["memory"] == "" {
		tree.remove()
		return cgroupTree{}, errors.Join(errs...)
	}
	return tree, nil
}

// cgroupMounts reads the hierarchies that matter here.
func cgroupMounts() ([]cgroupMount, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return parseCgroupMounts(string(info), string(own)), nil
}

// parseCgroupMounts joins the mount points of mountinfo with the paths of
// /proc/self/cgroup. Both formats are those of proc(5) and cgroups(7).
func parseCgroupMounts(mountinfo, own string) []cgroupMount {
	paths := map[string]string{} // controller, or "" for version 2 → path
	for line := range strings.Lines(own) {
		if part := strings.SplitN(strings.TrimSpace(line), ":", 3); len(part) == 3 {
			for _, controller := range strings.Split(part[1], ",") {
				paths[controller] = part[2]
			}
		}
	}
	var mounts []cgroupMount
	for line := range strings.Lines(mountinfo) {
		head, tail, ok := strings.Cut(line, " - ")
		field, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(field) < 5 || len(kind) < 3 {
			continue
		}
		m := cgroupMount{root: field[4]}
		key := ""
		switch kind[0] {
		case "cgroup2":
			m.version = 2
		case "cgroup":
			m.version = 1
			for _, option := range strings.Split(kind[2], ",") {
				for _, c := range v1Controllers {
					if option == c {
						m.controllers = append(m.controllers, c)
						key = c
					}
				}
			}
		}
		path, known := paths[key]
		if m.version == 0 || m.version == 1 && len(m.controllers) == 0 || !known {
			continue
		}
		// In a container the mount may show only a part of the hierarchy.
		if field[3] != "/" {
			path = strings.TrimPrefix(path, field[3])
		}
		m.dir = filepath.Join(m.root, path)
		mounts = append(mounts, m)
	}
	return mounts
}

// prepareV2 makes dir below base with the controllers that instances need. A
// cgroup with processes cannot hand controllers down, so a daemon alone in its
// cgroup (a systemd unit with Delegate=yes) first moves into one beside dir.
func prepareV2(base, dir string) error {
	has, err := os.ReadFile(filepath.Join(base, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(has)), "memory") {
		return fmt.Errorf("%s has no memory controller", base)
	}
	if err := enableV2(base); errors.Is(err, unix.EBUSY) {
		procs, _ := os.ReadFile(filepath.Join(base, "cgroup.procs"))
		if strings.TrimSpace(string(procs)) != strconv.Itoa(os.Getpid()) {
			return fmt.Errorf("%s holds other processes than this daemon: %w", base, err)
		}
		if err := os.MkdirAll(filepath.Join(base, "covey-daemon"), 0o755); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(base, "covey-daemon", "cgroup.procs"), "0"); err != nil {
			return err
		}
		if err := enableV2(base); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return enableV2(dir)
}

// enableV2 hands the controllers down; only memory must succeed.
func enableV2(dir string) error {
	var memory error
	for _, controller := range v2Controllers {
		err := writeFile(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller)
		if err != nil && controller == "memory" {
			memory = err
		}
	}
	return memory
}
