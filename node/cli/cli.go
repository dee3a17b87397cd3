package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/covey-dev/covey/node"
)

// Env is what a command may see of the world, so that tests can give it another.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// LookupEnv finds an environment variable.
	LookupEnv func(string) (string, bool)
}

// System is the process's own environment.
func System() Env {
	return Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv}
}

// terminal reports whether f is a terminal. Anything that is no file is none.
func terminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Run executes one command line, without the program's name, and returns the
// exit code. It ends early, in order, when ctx does.
func Run(ctx context.Context, env Env, args []string) int {
	a := &app{env: env}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.ran {
		// cobra's own complaints come before any command has run.
		if _, ok := errors.AsType[*usageError](err); !ok {
			err = &usageError{err}
		}
	}
	if code := exitCode(ctx, err); code != ExitOK {
		if code == ExitInterrupted {
			return code
		}
		explainFailure(env.Stderr, err)
		if code == ExitUsage {
			_, _ = io.WriteString(env.Stderr, "Try 'covey help'.\n")
		}
		return code
	}
	return ExitOK
}

// app is one run of the program.
type app struct {
	env Env
	// ran is set when a command's own code begins.
	ran bool

	// The settings that every command has.
	addr    []string
	token   string
	tokenAt string
	ca      string
	dataDir string
	appName string
	output  string
	config  string
}

// root builds the whole tree anew for each run: nothing outlives one.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:     "covey",
		Version: thisBuild().Version,
		Short:   "A serverless cluster for bare machines, in one binary",
		Long: `Covey runs functions on machines you own: one binary per machine, nothing else.

Settings come from flags, else from COVEY_... variables, else from the file given
with --config. COVEY_ADDR and COVEY_TOKEN select the cluster; on a node itself
neither is needed, because its data directory has both.

` + exitHelp,
		Example: `  covey dev                                   # a throw-away cluster of one node
  covey start --init                          # found a cluster
  covey start --join TOKEN                    # join it from another machine
  covey deploy hello ./hello                  # build a Go function and deploy it
  covey invoke hello -d '{"name":"you"}'      # call it`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.settle(cmd); err != nil {
				return &usageError{err}
			}
			a.ran = true
			return nil
		},
	}
	root.SetIn(a.env.Stdin)
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	a.settings(root)
	root.AddGroup(
		&cobra.Group{ID: "functions", Title: "Functions:"},
		&cobra.Group{ID: "insight", Title: "Insight:"},
		&cobra.Group{ID: "cluster", Title: "Cluster:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("functions", a.newCommand(), a.runCommand(), a.deployCommand(), a.invokeCommand(), a.listCommand(), a.describeCommand(), a.removeCommand(),
		a.versionsCommand(), a.aliasCommand(), a.rollbackCommand())
	add("insight", a.topCommand(), a.logsCommand(), a.explainCommand(), a.usageCommand(), a.statusCommand())
	add("cluster", a.startCommand(), a.devCommand(), a.nodesCommand(), a.nodeCommand(), a.tokenCommand(),
		a.backupCommand(), a.restoreCommand(), a.recoverCommand())
	root.AddCommand(a.versionCommand(), a.runtimeCommand())
	return root
}

// settings registers what every command has.
func (a *app) settings(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringSliceVar(&a.addr, "addr", nil, "API addresses of some nodes, HOST:PORT or URL, separated by commas")
	f.StringVar(&a.tokenAt, "token-file", "", "file that holds the token (COVEY_TOKEN holds the token itself)")
	f.StringVar(&a.ca, "ca", "", "PEM file of the authority to trust for https addresses")
	f.StringVar(&a.dataDir, "data-dir", node.DefaultConfig().DataDir, "the node's data directory")
	f.StringVarP(&a.appName, "app", "a", "default", "app of a function that is named without one")
	f.StringVarP(&a.output, "output", "o", "table", "output format: table or json")
	f.StringVar(&a.config, "config", "", "file with settings, in YAML, named as the flags are")
	for _, name := range []string{"addr", "token-file", "ca", "data-dir", "app", "output", "config"} {
		setting(root.PersistentFlags(), name)
	}
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// json reports whether the output is for a program.
func (a *app) json() bool { return a.output == "json" }

// target reads "[APP/]NAME[:QUALIFIER]".
func (a *app) target(arg string) (app, name, qualifier string, err error) {
	app, name = a.appName, arg
	if before, after, ok := strings.Cut(arg, "/"); ok {
		app, name = before, after
	}
	name, qualifier, _ = strings.Cut(name, ":")
	if app == "" || name == "" || strings.Contains(name, "/") {
		return "", "", "", usagef("%q is not a function: want [APP/]NAME[:QUALIFIER]", arg)
	}
	return app, name, qualifier, nil
}

// function reads "[APP/]NAME" for commands that take no qualifier.
func (a *app) function(arg string) (app, name string, err error) {
	app, name, qualifier, err := a.target(arg)
	if err == nil && qualifier != "" {
		err = usagef("%q: a version or an alias cannot be given here", arg)
	}
	return app, name, err
}
