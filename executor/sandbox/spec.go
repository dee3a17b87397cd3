package sandbox

import (
	"os"
	"syscall"
	"time"
)

// Places in an instance's root that are empty directories until Show fills them.
// They are named as AWS Lambda names its own, because programs exist that look
// there.
const (
	// TaskDir is for the function's code.
	TaskDir = "/var/task"
	// CacheDir is for what was computed from the code ahead.
	CacheDir = "/var/cache/covey"
	// OptDir is for what several functions share.
	OptDir = "/opt"
)

// Place is a directory of the host and where instances see it.
type Place struct {
	// Source is an absolute path of the host.
	Source string
	// Target is TaskDir, CacheDir or OptDir, and must be empty still.
	Target string
}

// Spec describes one instance to start.
type Spec struct {
	// Instance names the instance in logs and errors. Required; letters, digits,
	// '-' and '_' only.
	Instance string

	// Code is the program: it is executed by descriptor, so its path needs not
	// be visible to the instance. The instance's user is another one, so the
	// file's mode must let others read and execute it (0555), or the start fails
	// with EACCES at step "exec"; the directory above may be closed. No descriptor
	// may be open for writing (ETXTBSY). The caller keeps it open until Start
	// returns. Exactly one of Code and Path is set.
	Code *os.File
	// Path is an absolute path of a program as the instance sees it.
	Path string

	// Args is the whole argument vector; nil means the instance's name alone.
	Args []string
	// Env is the whole environment. Start adds HOME and TMPDIR where missing,
	// and nothing of the daemon's own environment.
	Env []string

	// Files become descriptors 3, 4, … of the program. Nothing else is
	// inherited. The caller closes its copies after Start.
	Files []*os.File
	// Stdout and Stderr are descriptors 1 and 2; nil means /dev/null.
	Stdout, Stderr *os.File

	// Memory is the limit in bytes, 0 for none. Without a memory cgroup the
	// limit is not enforced here: watch Process.Memory.
	Memory int64
	// Pids limits processes and threads together; 0 means 256.
	Pids int
	// NoFile limits open descriptors; 0 means 1024.
	NoFile int
	// TmpSize limits the private /tmp in bytes; 0 means 512 MiB. It is memory,
	// and counts as such.
	TmpSize int64

	// Network leaves the instance in the host's network. Otherwise it has a
	// network namespace of its own with nothing but loopback.
	Network bool
	// ReadPaths are further absolute paths that the instance may read.
	ReadPaths []string
	// WritePaths are absolute paths of directories that the instance may write to. They
	// are given to the instance's user with everything in them; nobody gives them back.
	WritePaths []string
	// MinLevel refuses the start (ErrLevel) where the machine gives less.
	MinLevel Level
}

// State is how a process ended. The zero value is that of a living process.
type State struct {
	// Exited is false while the process lives.
	Exited bool
	// Code is the exit code, or -1 when a signal ended the process.
	Code int
	// Signal ended the process, 0 for none.
	Signal syscall.Signal
	// OOM says that the kernel killed something of the instance for its memory.
	OOM bool
	// CPUTime and Peak are the last readings, of everything in the instance.
	CPUTime time.Duration
	Peak    int64
}
