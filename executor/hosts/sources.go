package hosts

import (
	"github.com/covey-dev/covey/plugins/runtime/nodejs"
	"github.com/covey-dev/covey/plugins/runtime/python"
)

// Sources are the runtimes that this release knows besides "go". Those without an
// interpreter are run by the covey binary itself (`covey runtime NAME`).
func Sources() []Source {
	return []Source{
		{
			Name: "python", Prepares: true, Files: python.Files(), Interpreters: python.Interpreters(),
			Command: python.Command, Compile: python.Compile, Probe: python.Probe,
		},
		{
			Name: "nodejs", Prepares: true, Files: nodejs.Files(), Link: nodejs.Link, Interpreters: nodejs.Interpreters(),
			Command: nodejs.Command, Probe: nodejs.Probe,
		},
		// A program for each call that runs, with threads of its own.
		{Name: "exec", Pids: 1024, Arguments: []string{"covey", "runtime", "exec"}},
		// A package's program and what it starts, beside its host.
		{Name: "lambda", Prepares: true, Pids: 1024, Arguments: []string{"covey", "runtime", "lambda"}},
		{Name: "wasm", Prepares: true, Compiles: true, Arguments: []string{"covey", "runtime", "wasm"}},
	}
}
