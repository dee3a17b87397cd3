package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/plugins"
)

// fallbackMemory is assumed of a machine that does not tell its memory.
const fallbackMemory = 1 << 30

// Config is what an Executor is told and given. Start from DefaultConfig.
type Config struct {
	// DataDir is the node's data directory; logs go to DataDir/logs. Required,
	// absolute.
	DataDir string
	// Node is the id of this node, which functions are told. Required.
	Node string

	// Sandbox starts the processes. Required.
	Sandbox *sandbox.Sandbox
	// Code opens the artifact with the given digest, verified, for reading: a program
	// for "go", an archive for other runtimes. The executor closes the file. Required.
	Code func(ctx context.Context, digest string) (*os.File, error)
	// Runtimes are what this node hosts besides "go"; see hosts.Detect.
	Runtimes []hosts.Runtime
	// Host serves what functions ask of the platform; the key says who asks. Nil
	// refuses all of it.
	Host func(ctx context.Context, caller Key, call *plugins.HostCall) (*plugins.HostReply, error)
	// Scale decides whether waiting calls justify one more instance. It is asked
	// often and must be quick and must not call the executor. It is not asked
	// where no instance exists, or where calls would be refused otherwise. Nil
	// always starts one.
	Scale func(ScaleInput) bool
	// Share returns how many calls of a function this node may run at once now, or
	// why none may begin, as an error that wraps plugins.ErrNotStarted. It is asked
	// for functions whose Spec says Reserved, under a lock: it must be quick and must
	// not call the executor. With nil such functions do not run.
	Share func(app, function string) (int, error)
	// OnWarm is told when a version gets its first usable instance here and when
	// it has lost its last one, in order, from one goroutine of Run. May be nil.
	OnWarm func(key Key, warm bool)
	// Meter gets the final figures of every call that reached an instance, on
	// the goroutine of the call. It must not block. May be nil.
	Meter func(Usage)

	// Memory is the budget in bytes that the limits of all living instances
	// share; default four fifths of the machine's. Too small a budget ends idle
	// instances early and refuses calls, too large a one invites the kernel to
	// end processes of its own choice.
	Memory int64
	// Starts is how many instances may be starting at once where the contention of
	// the processors cannot be measured; default their number, at least 2. Where it
	// can, starts are between half and eight times as many. Too many make every one
	// of them slower, too few leave a burst of cold calls waiting.
	Starts int
	// StartTimeout bounds a start of a version that says nothing else; default
	// 10 s.
	StartTimeout time.Duration
	// MaxBody is the largest event or answer in bytes that is not a stream;
	// default 6 MiB.
	MaxBody int
	// LogBytes bounds the log kept of each function on disk; default 8 MiB. Too
	// small a bound loses what one busy minute printed.
	LogBytes int64

	Logger     zerolog.Logger
	Registerer prometheus.Registerer
	Clock      clock.Clock
}

// DefaultConfig returns the defaults. DataDir, Node, Sandbox and Code are left
// for the caller.
func DefaultConfig() Config {
	return Config{
		Memory:       machineMemory() / 5 * 4,
		Starts:       max(2, runtime.GOMAXPROCS(0)),
		StartTimeout: 10 * time.Second,
		MaxBody:      6 << 20,
		LogBytes:     8 << 20,
		Logger:       zerolog.Nop(),
		Registerer:   prometheus.NewRegistry(),
		Clock:        clock.System{},
	}
}

// Validate reports everything that is wrong with the configuration at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.DataDir) {
		bad("DataDir %q is not an absolute path", c.DataDir)
	}
	if c.Node == "" {
		bad("Node is empty")
	}
	if c.Sandbox == nil {
		bad("Sandbox is nil")
	}
	if c.Code == nil {
		bad("Code is nil")
	}
	if c.Memory <= 0 || c.Starts <= 0 || c.StartTimeout <= 0 || c.MaxBody <= 0 {
		bad("Memory, Starts, StartTimeout and MaxBody must be above 0")
	}
	if c.LogBytes < minLogBytes {
		bad("LogBytes is %d, want at least %d", c.LogBytes, int64(minLogBytes))
	}
	if c.Registerer == nil || c.Clock == nil {
		bad("Registerer and Clock must be set")
	}
	return errors.Join(errs...)
}
