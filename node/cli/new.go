package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/cli/scaffold"
)

// newFunction is what the flags of `covey new` say.
type newFunction struct {
	runtime, dir string
	list         bool
}

// newCommand is `covey new`.
func (a *app) newCommand() *cobra.Command {
	n := &newFunction{}
	cmd := &cobra.Command{
		Use:   "new [APP/]NAME --runtime RUNTIME",
		Short: "Make the folder of a new function",
		Long: `New makes a folder with a function that works: its code, a covey.yaml, a test of its
own that passes, and a few lines on how to go on. It overwrites nothing.`,
		Example: `  covey new --list
  covey new hello --runtime python
  covey new shop/resize --runtime go --dir services/resize`,
		Args: between(0, 1, "a NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n.list {
				return a.listTemplates()
			}
			return a.makeFunction(cmd, n, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.runtime, "runtime", "", "runtime of the function: "+strings.Join(manifest.Runtimes(), ", "))
	f.StringVar(&n.dir, "dir", "", "folder to make (default NAME)")
	f.BoolVar(&n.list, "list", false, "list what a function can begin with")
	_ = cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions(manifest.Runtimes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// listTemplates shows what there is.
func (a *app) listTemplates() error {
	templates := scaffold.Templates()
	if a.json() {
		return a.printJSON(templates)
	}
	t := newTable("RUNTIME", "WHAT", "TEST")
	for _, tmpl := range templates {
		t.row(tmpl.Runtime, tmpl.Description, strings.Join(tmpl.Test, " "))
	}
	return t.write(a.env.Stdout)
}

// makeFunction writes the folder and prints where it is.
func (a *app) makeFunction(cmd *cobra.Command, n *newFunction, args []string) error {
	if len(args) == 0 {
		return usagef("%s takes a NAME", cmd.CommandPath())
	}
	app, name, err := a.function(args[0])
	if err != nil {
		return err
	}
	if !strings.Contains(args[0], "/") && !cmd.Flags().Changed("app") {
		app = "" // the default, or the shell's: neither belongs into the file
	}
	if n.runtime == "" {
		return usagef("say which --runtime: %s (covey new --list tells more)", strings.Join(manifest.Runtimes(), ", "))
	}
	tmpl, err := scaffold.Find(n.runtime)
	if err != nil {
		return usagef("--runtime: %w", err)
	}
	dir := n.dir
	if dir == "" {
		dir = name
	}
	if err := tmpl.Make(dir, scaffold.Function{Name: name, App: app}); err != nil {
		err = fmt.Errorf("new function: %w", err)
		if errors.Is(err, scaffold.ErrExists) {
			return &usageError{err}
		}
		return err
	}
	steps := []string{"cd " + dir}
	if tmpl.Fetch != nil {
		steps = append(steps, strings.Join(tmpl.Fetch, " "))
	}
	a.say("next: %s", strings.Join(append(steps, strings.Join(tmpl.Test, " "), "covey run ."), ", "))
	_, err = fmt.Fprintln(a.env.Stdout, dir)
	return err
}
