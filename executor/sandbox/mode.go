//go:build linux && (amd64 || arm64)

package sandbox

import "os"

// mode is one way of confining instances: a combination of mechanisms that was
// found to work on this machine. Cgroups are apart, because they limit rather
// than hide, and either can be had without the other.
type mode struct {
	name string
	// uids gives every instance a user id of its own; needs root.
	uids bool
	// userns gives every instance a user namespace, which is how a daemon without
	// root comes by the other namespaces.
	userns bool
	// namespaces: pid, mount, ipc and uts, with the stage as process 1, and the
	// network's.
	namespaces bool
	// template copies a mount namespace that was prepared once. Without it every
	// start builds its root anew.
	template bool
	// landlock restricts paths where there is no mount namespace.
	landlock bool
	// seccomp loads the system call filter.
	seccomp bool
}

// modesFor lists what to try, best first. The last needs nothing at all.
func modesFor(euid int) []mode {
	if euid == 0 {
		return []mode{
			{name: "root with namespaces from a template", uids: true, namespaces: true, template: true, seccomp: true},
			{name: "root with namespaces", uids: true, namespaces: true, seccomp: true},
			{name: "root without namespaces", uids: true, landlock: true, seccomp: true},
			{name: "root without landlock", uids: true, seccomp: true},
			{name: "process group"},
		}
	}
	return []mode{
		{name: "user namespace", userns: true, namespaces: true, seccomp: true},
		{name: "landlock", landlock: true, seccomp: true},
		{name: "system call filter", seccomp: true},
		{name: "process group"},
	}
}

// level returns what the mode amounts to, given what cgroups and the network
// add.
func (m mode) level(network, memory bool) Level {
	switch {
	case m.namespaces && m.seccomp && network && memory:
		return LevelLimited
	case m.namespaces && m.seccomp:
		return LevelIsolated
	case m.uids || m.landlock:
		return LevelHidden
	}
	return LevelNone
}

// features says what the mode has, for Describe.
func (m mode) features() []Feature {
	euid := "needs root"
	if os.Geteuid() == 0 {
		euid = ""
	}
	return []Feature{
		{Name: "user id per instance", OK: m.uids, Detail: euid},
		{Name: "user namespace", OK: m.userns},
		{Name: "pid, mount, ipc and uts namespaces", OK: m.namespaces},
		{Name: "landlock", OK: m.landlock},
		{Name: "system call filter", OK: m.seccomp},
	}
}
