package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/cli/source"
)

// code is what the flags say about a function's code.
type code struct {
	runtime, handler string
	platforms        []string
}

func (c *code) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.runtime, "runtime", "", "how the code is hosted: go, python, nodejs, lambda, exec or wasm (default by its files)")
	f.StringVar(&c.handler, "handler", "", "entry point of the code, such as module.function or file.export")
	_ = cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions(manifest.Runtimes(), cobra.ShellCompDirectiveNoFileComp))
}

// options are what package source needs to build and pack into dir.
func (c *code) options(a *app, dir string) source.Options {
	return source.Options{Runtime: c.runtime, Handler: c.handler, Platforms: c.platforms, Output: a.env.Stderr, Dir: dir}
}

// inputError makes a mistake in what was given one of the command line, which
// ends the program with ExitUsage.
func inputError(err error) error {
	if _, ok := errors.AsType[*source.InputError](err); ok {
		return &usageError{err}
	}
	return err
}
