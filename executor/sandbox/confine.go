//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// limits adds the resource limits. They come before the change of user, because
// without CAP_SYS_RESOURCE nobody may set those of another user's process.
// RLIMIT_AS is not among them: Node, wasm and Go reserve far more address space
// than they use.
func (s *script) limits(noFile, pids int, ownUser bool) {
	set := func(name string, resource int, value uint64) {
		// A lower hard limit of the daemon's own cannot be exceeded.
		var have unix.Rlimit
		if unix.Getrlimit(resource, &have) == nil {
			value = min(value, have.Max)
		}
		s.sys("limit "+name, unix.SYS_PRLIMIT64, 0, uintptr(resource), s.words(value, value), 0)
	}
	set("descriptors", unix.RLIMIT_NOFILE, uint64(noFile))
	set("core dumps", unix.RLIMIT_CORE, 0)
	set("message queues", unix.RLIMIT_MSGQUEUE, 0)
	set("pending signals", unix.RLIMIT_SIGPENDING, 1024)
	if ownUser { // the kernel counts per user, so a shared one cannot be limited
		set("processes", unix.RLIMIT_NPROC, uint64(pids))
	}
}

// defaultSignals gives every signal its default action; a daemon started by
// nohup, for example, would hand down that SIGHUP is ignored.
func (s *script) defaultSignals() {
	zero := s.words(0, 0, 0, 0) // struct sigaction of the kernel: SIG_DFL
	for sig := uintptr(1); sig < 32; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			s.sys("reset signals", unix.SYS_RT_SIGACTION, sig, zero, 0, 8)
		}
	}
	s.sys("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, zero, 0, 8)
}

// identity adds the change to a user of the instance's own. With the last user
// id 0 the capabilities go too.
func (s *script) identity(uid uint32) {
	id := uintptr(uid)
	s.sys("drop groups", unix.SYS_SETGROUPS, 0, 0)
	s.sys("set group", unix.SYS_SETRESGID, id, id, id)
	s.sys("set user", unix.SYS_SETRESUID, id, id, id)
}

// dropCapabilities ends what a user namespace gave for the preparation.
func (s *script) dropCapabilities() {
	s.sys("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		s.sys("drop capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0).optional = true
	}
	header := s.words(unix.LINUX_CAPABILITY_VERSION_3) // version and pid 0
	s.sys("drop capabilities", unix.SYS_CAPSET, header, s.words(0, 0, 0))
}

// noNewPrivs makes set-user-id programs and file capabilities powerless.
func (s *script) noNewPrivs() {
	s.sys("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// Access rights of a landlock rule.
const (
	landlockRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	landlockAll  = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // every right of the first ABI
	// Later rights, of ABI 2, 3 and 5: linking across directories, truncating,
	// commands to devices.
	landlockRefer    = unix.LANDLOCK_ACCESS_FS_REFER
	landlockTruncate = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	landlockIoctl    = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// landlockUnix is connecting to sockets that have a path. Before its ABI,
	// instances of one user can reach each other's.
	landlockUnix    = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	landlockUnixABI = 9
)

// landlockABI returns the kernel's version of landlock, 0 for none.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// landlockRules describes what an instance may touch where there is no mount
// namespace to hide the rest.
type landlockRules struct {
	abi      int
	write    []string
	read     []string
	isolated bool // no connecting to abstract sockets and no signals outward
}

// ruleset builds the rules as a descriptor that a stage can enforce on itself.
// Paths that do not exist are left out: there is nothing to allow.
func (r landlockRules) ruleset() (*os.File, error) {
	handled := uint64(landlockAll)
	for abi, right := range map[int]uint64{2: landlockRefer, 3: landlockTruncate, 5: landlockIoctl, landlockUnixABI: landlockUnix} {
		if r.abi >= abi {
			handled |= right
		}
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	size := uintptr(8) // the kernel refuses fields that it does not know
	if r.abi >= 6 && r.isolated {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
		size = 24
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	rules := os.NewFile(fd, "landlock")
	add := func(path string, access uint64) error {
		info, err := os.Stat(path)
		if err != nil {
			return nil
		}
		if !info.IsDir() {
			access &= landlockFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | landlockTruncate | landlockIoctl
		}
		at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(at)
		rule := unix.LandlockPathBeneathAttr{Allowed_access: access & handled, Parent_fd: int32(at)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH,
			uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			return &os.PathError{Op: "landlock_add_rule", Path: path, Err: errno}
		}
		return nil
	}
	for _, list := range []struct {
		paths  []string
		access uint64
	}{{r.read, landlockRead}, {r.write, handled}} {
		for _, path := range list.paths {
			if err := add(path, list.access); err != nil {
				_ = rules.Close()
				return nil, err
			}
		}
	}
	return rules, nil
}

// landlock adds the step that enforces a ruleset; no_new_privs comes first.
func (s *script) landlock(fd int) {
	s.sys("enforce landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0)
}
