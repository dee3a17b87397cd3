package sandbox

import "fmt"

// Level says how much of the sandbox a machine can give. Levels are ordered:
// a higher one includes the lower ones, so callers compare them with < and >=.
type Level int

// The levels, weakest first. A node publishes its own, and a function may
// demand a least one (Spec.MinLevel).
const (
	// LevelNone is a process group, resource limits and an empty environment:
	// protection against accidents only.
	LevelNone Level = iota
	// LevelHidden adds no_new_privs, a data directory that the instance cannot
	// see, and other instances whose memory, files and environment it cannot
	// read (a uid per instance, or landlock where the daemon is not root).
	LevelHidden
	// LevelIsolated adds pid, mount, ipc and uts namespaces and the system call
	// filter. From here on nothing of an instance outlives the daemon.
	LevelIsolated
	// LevelLimited adds an empty network namespace and kernel-enforced limits
	// of memory and processes by cgroup.
	LevelLimited
)

// String returns the level's name as ParseLevel reads it.
func (l Level) String() string {
	switch l {
	case LevelNone:
		return "none"
	case LevelHidden:
		return "hidden"
	case LevelIsolated:
		return "isolated"
	case LevelLimited:
		return "limited"
	}
	return fmt.Sprintf("level(%d)", int(l))
}

// ParseLevel is the inverse of String.
func ParseLevel(name string) (Level, error) {
	for l := LevelNone; l <= LevelLimited; l++ {
		if l.String() == name {
			return l, nil
		}
	}
	return LevelNone, fmt.Errorf("unknown sandbox level %q (none, hidden, isolated, limited)", name)
}
