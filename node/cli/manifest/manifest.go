package manifest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/client/wire"
)

// FileName is the name of the file in a function's folder.
const FileName = "covey.yaml"

// The runtimes that a function can ask for.
const (
	Go     = "go"
	Python = "python"
	NodeJS = "nodejs"
	Lambda = "lambda"
	Exec   = "exec"
	Wasm   = "wasm"
)

// Runtimes lists their names, in the order that people are shown.
func Runtimes() []string { return []string{Go, Python, NodeJS, Lambda, Exec, Wasm} }

// Manifest is what a covey.yaml says. A field that it does not mention is zero,
// which stands for the default.
type Manifest struct {
	// Name and App are the function's; App may be empty.
	Name, App   string
	Description string
	// Runtime is one of Runtimes, or empty: then the folder's files tell.
	Runtime string
	// Handler names the entry point in the runtime's own form.
	Handler string

	// Memory is bytes.
	Memory                         uint64
	Timeout, StartTimeout, IdleTTL time.Duration
	Concurrency, Min, Max          uint32
	Reserved                       uint32
	Provisioned                    []wire.Provision
	Rate                           *wire.Rate
	// Queue is nil when it is not mentioned: no queue at all is a choice.
	Queue      *uint32
	MinSandbox sandbox.Level
	Idempotent bool
	Env        map[string]string
	Labels     map[string]string
	// Place is the labels that a node must have; Affinity sends calls with the same
	// key to the same node.
	Place    map[string]string
	Affinity bool

	// Build is a shell command that is run in the folder before it is packed.
	Build string
	// Code is the file or folder, within the function's folder, that is deployed;
	// empty means the folder itself.
	Code string
	// Include and Exclude are patterns for package archive.
	Include, Exclude []string
}

// Load reads a file. The error for a file that says something wrong is made of
// *Problem values, joined.
func Load(path string) (*Manifest, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return Parse(path, text)
}

// Problem is one mistake in a file. Its text says what to do.
type Problem struct {
	File string
	Line int // from 1; 0 when no line is to blame
	Text string
}

// Error is the form that editors and terminals can follow to the place.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// join sorts problems by line, so that a person can work downwards.
func join(problems []*Problem) error {
	slices.SortStableFunc(problems, func(a, b *Problem) int { return a.Line - b.Line })
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}
