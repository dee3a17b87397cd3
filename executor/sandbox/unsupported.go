//go:build !linux || !(amd64 || arm64)

package sandbox

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"
)

// Instances need Linux on amd64 or arm64. Elsewhere the package exists so that
// the command line client can be built; New fails and nothing else is reached.

// Sandbox starts instances.
type Sandbox struct{}

// Feature is one mechanism that this machine has or lacks.
type Feature struct {
	Name   string
	OK     bool
	Detail string
}

// Description says what New found out.
type Description struct {
	Level    Level
	Features []Feature
	Warnings []string
}

// New returns ErrUnsupported.
func New(Config) (*Sandbox, error) {
	return nil, errors.Join(ErrUnsupported, errors.New(runtime.GOOS+"/"+runtime.GOARCH))
}

// Level returns LevelNone.
func (*Sandbox) Level() Level { return LevelNone }

// LimitsMemory returns false.
func (*Sandbox) LimitsMemory() bool { return false }

// Describe returns nothing.
func (*Sandbox) Describe() Description { return Description{} }

// Start returns ErrUnsupported.
func (*Sandbox) Start(context.Context, Spec) (*Process, error) { return nil, ErrUnsupported }

// Shows returns false.
func (*Sandbox) Shows() bool { return false }

// Close does nothing.
func (*Sandbox) Close() error { return nil }

// Process is a started instance; there are none.
type Process struct{}

// Pid returns 0.
func (*Process) Pid() int { return 0 }

// Dir returns nothing.
func (*Process) Dir() string { return "" }

// Done returns nil.
func (*Process) Done() <-chan struct{} { return nil }

// State returns the zero State.
func (*Process) State() State { return State{} }

// Kill does nothing.
func (*Process) Kill() {}

// Signal returns ErrUnsupported.
func (*Process) Signal(os.Signal) error { return ErrUnsupported }

// Memory returns ErrUnsupported.
func (*Process) Memory() (int64, error) { return 0, ErrUnsupported }

// Peak returns 0.
func (*Process) Peak() int64 { return 0 }

// CPUTime returns 0.
func (*Process) CPUTime() time.Duration { return 0 }

// Show returns ErrUnsupported.
func (*Process) Show(...Place) error { return ErrUnsupported }

// Share returns ErrUnsupported.
func (*Process) Share(Place) error { return ErrUnsupported }

// Limit returns ErrUnsupported.
func (*Process) Limit(int64) error { return ErrUnsupported }
