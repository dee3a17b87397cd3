package hosts

import (
	"errors"
	"os"
)

// Runtime says how the processes of a runtime are started on this machine.
type Runtime struct {
	// Name is what the configuration of a version calls the runtime.
	Name string
	// Program is the program, executed by descriptor; nil if Path is set.
	Program *os.File
	// Path is the program's path as the sandbox shows it.
	Path string
	// Args is the whole argument vector.
	Args []string
	// Files is a folder that the program needs to see, or empty.
	Files string
	// Pids limits processes and threads of an instance together; 0 for the sandbox's
	// default.
	Pids int
	// Prepares tells that a process can compute something from code alone.
	Prepares bool
	// Compiles tells that an instance without what was prepared takes as long as the
	// preparation, and more memory than its limit may be. So a start waits for it.
	Compiles bool
	// Version is what the program says about itself, for people.
	Version string
}

var (
	// ErrRuntime says that this node does not host the runtime. The cluster sends no
	// calls of such a function here, unless the node lost an interpreter meanwhile.
	ErrRuntime = errors.New("runtime is not available on this node")
	// ErrCode is wrapped by the error for code that cannot be unpacked. It is the
	// archive's fault, and will be so again.
	ErrCode = errors.New("code cannot be unpacked")
	// ErrClosed is returned after Run has ended.
	ErrClosed = errors.New("pool of runtimes is closed")
)
