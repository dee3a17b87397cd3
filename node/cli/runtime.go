package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/plugins/runtime/command"
	"github.com/covey-dev/covey/plugins/runtime/lambda"
	"github.com/covey-dev/covey/plugins/runtime/wasm"
)

// hosted are the runtimes that this binary runs itself, each as a process that a node
// starts in the sandbox (executor/hosts). None of them returns.
func hosted() map[string]func() {
	return map[string]func(){
		"exec":   command.Main,
		"lambda": lambda.Main,
		"wasm":   wasm.Main,
	}
}

// runtimeCommand is `covey runtime`, which only nodes use.
func (a *app) runtimeCommand() *cobra.Command {
	names := slices.Sorted(maps.Keys(hosted()))
	return &cobra.Command{
		Use:       "runtime NAME",
		Short:     "Host a function in a runtime; a node starts this",
		Example:   "  covey runtime wasm",
		Hidden:    true,
		ValidArgs: names,
		Args:      exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			run, ok := hosted()[args[0]]
			if !ok {
				return usagef("%q is none of %s", args[0], strings.Join(names, ", "))
			}
			run()
			return nil
		},
	}
}
