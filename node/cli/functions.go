package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// with runs a command's work with a client, and ends the client.
func (a *app) with(work func(cmd *cobra.Command, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		return work(cmd, c, args)
	}
}

// listCommand is `covey list`.
func (a *app) listCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List functions",
		Example: "  covey list\n  covey list --all\n  covey list -a shop -o json",
		Args:    none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			app := a.appName
			if all {
				app = ""
			}
			functions, err := c.Functions(cmd.Context(), app)
			if err != nil {
				return fmt.Errorf("list functions: %w", err)
			}
			if a.json() {
				return a.printJSON(functions)
			}
			t := newTable("FUNCTION", "LIVE", "LATEST", "VERSIONS", "UPDATED")
			for _, f := range functions {
				t.row(f.App+"/"+f.Name, f.Live, f.Latest, f.Versions, f.Updated)
			}
			return t.write(a.env.Stdout)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "functions of all apps")
	return cmd
}

// describeCommand is `covey describe`.
func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "describe [APP/]NAME", Aliases: []string{"inspect"}, Short: "Show a function, where it runs and what is wrong",
		Example: "  covey describe hello",
		Args:    exactly(1, "NAME"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			app, name, err := a.function(args[0])
			if err != nil {
				return err
			}
			f, err := c.Function(cmd.Context(), app, name)
			if err != nil {
				return fmt.Errorf("describe %s: %w", args[0], err)
			}
			if a.json() {
				return a.printJSON(f)
			}
			return a.showFunction(f)
		}),
	}
}

// showFunction prints a function, its settings and its instances for people.
func (a *app) showFunction(f *wire.Function) error {
	t := newTable("function", f.App+"/"+f.Name)
	t.row("latest", f.Latest)
	for _, alias := range f.Aliases {
		t.row("alias "+alias.Name, aliasTarget(alias))
	}
	if v := f.Current; v != nil {
		a.specRows(t, &v.Spec)
		t.row("deployed", v.Created)
	}
	if err := t.write(a.env.Stdout); err != nil {
		return err
	}
	if err := a.showShares(f.Shares); err != nil {
		return err
	}
	if len(f.Placements) == 0 {
		_, err := fmt.Fprintln(a.env.Stdout, "\nno instances")
		return err
	}
	if _, err := fmt.Fprintln(a.env.Stdout); err != nil {
		return err
	}
	p := newTable("NODE", "VERSION", "INSTANCES", "STARTING", "IN FLIGHT", "QUEUED", "SANDBOX", "PROBLEM")
	for _, at := range f.Placements {
		p.row(at.Name, at.Version, at.Instances, at.Starting, at.InFlight, at.Queued, at.Sandbox, at.Problem)
	}
	return p.write(a.env.Stdout)
}

// specRows shows the settings of a version.
func (a *app) specRows(t *table, s *wire.FunctionSpec) {
	maximum := "by memory"
	if s.Max > 0 {
		maximum = strconv.FormatUint(uint64(s.Max), 10)
	}
	t.row("runtime", s.Runtime)
	if s.Handler != "" {
		t.row("handler", s.Handler)
	}
	t.row("memory", size(s.MemoryBytes))
	t.row("timeout", time.Duration(s.TimeoutMS)*time.Millisecond)
	t.row("concurrency", s.Concurrency)
	t.row("instances", fmt.Sprintf("min %d, max %s", s.Min, maximum))
	if s.Reserved > 0 {
		t.row("reserved", fmt.Sprintf("%d at once in the cluster", s.Reserved))
	}
	for _, p := range s.Provisioned {
		t.row("provisioned", windowText(p))
	}
	if r := s.Rate; r != nil {
		t.row("rate", fmt.Sprintf("%d a second at each node, at most %d at once", r.PerSecond, max(r.Burst, r.PerSecond)))
	}
	if s.Queue != nil {
		t.row("queue", *s.Queue)
	}
	t.row("idempotent", s.Idempotent)
	t.row("least sandbox", sandbox.Level(s.MinSandbox))
	if len(s.Place) > 0 {
		t.row("nodes with", labelText(s.Place))
	}
	if s.Affinity {
		t.row("affinity", "calls with the same key go to the same node")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		t.row("env "+name, s.Env[name])
	}
	for _, artifact := range s.Artifacts {
		machine := "for any machine"
		if artifact.OS+artifact.Arch != "" {
			machine = artifact.OS + "/" + artifact.Arch
		}
		t.row("code "+machine, fmt.Sprintf("%s (%s)", artifact.Digest, size(artifact.Size)))
	}
}

// windowText says when how many instances are kept warm.
func windowText(p wire.Provision) string {
	text := strconv.FormatUint(uint64(p.Count), 10)
	if p.From != "" {
		text += ", " + p.From + " to " + p.To
	}
	for _, more := range []string{p.Days, p.Zone} {
		if more != "" {
			text += ", " + more
		}
	}
	return text
}

// aliasTarget says what an alias leads to, in words.
func aliasTarget(al wire.Alias) string {
	if al.Other == 0 {
		return strconv.FormatUint(al.Version, 10)
	}
	return fmt.Sprintf("%d, %d with weight %g", al.Version, al.Other, al.OtherWeight)
}

// removeCommand is `covey remove`. It asks nothing: a script may run it, and a
// name that was typed in full is an answer.
func (a *app) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove [APP/]NAME[:VERSION]", Aliases: []string{"rm", "delete"}, Short: "Remove a function, or one version of it",
		Example: "  covey remove hello\n  covey remove hello:3",
		Args:    exactly(1, "NAME"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			app, name, qualifier, err := a.target(args[0])
			if err != nil {
				return err
			}
			if qualifier == "" {
				err = c.DeleteFunction(cmd.Context(), app, name)
			} else {
				version, bad := strconv.ParseUint(qualifier, 10, 64)
				if bad != nil {
					return usagef("%q is not a version; aliases are removed with covey alias --delete", qualifier)
				}
				err = c.DeleteVersion(cmd.Context(), app, name, version)
			}
			if err != nil {
				return fmt.Errorf("remove %s: %w", args[0], err)
			}
			a.say("removed %s", args[0])
			return nil
		}),
	}
}

// showShares prints how reserved concurrency is cut, if any is.
func (a *app) showShares(shares []wire.Share) error {
	if len(shares) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.env.Stdout); err != nil {
		return err
	}
	t := newTable("NODE", "RESERVED", "WITHHELD")
	for _, s := range shares {
		t.row(cmp.Or(s.Name, s.Node), s.Share, s.Withheld)
	}
	return t.write(a.env.Stdout)
}

// versionsCommand is `covey versions`.
func (a *app) versionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "versions [APP/]NAME", Short: "List the versions of a function",
		Example: "  covey versions hello",
		Args:    exactly(1, "NAME"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			app, name, err := a.function(args[0])
			if err != nil {
				return err
			}
			versions, err := c.Versions(cmd.Context(), app, name)
			if err != nil {
				return fmt.Errorf("list versions of %s: %w", args[0], err)
			}
			if a.json() {
				return a.printJSON(versions)
			}
			t := newTable("VERSION", "ALIASES", "DEPLOYED", "MEMORY", "TIMEOUT", "DESCRIPTION")
			for _, v := range versions {
				t.row(v.Number, strings.Join(v.Aliases, ","), v.Created, size(v.Spec.MemoryBytes),
					time.Duration(v.Spec.TimeoutMS)*time.Millisecond, v.Spec.Description)
			}
			return t.write(a.env.Stdout)
		}),
	}
}

// aliasCommand is `covey alias`: one command that lists, moves and removes,
// depending on how much it is told.
func (a *app) aliasCommand() *cobra.Command {
	var split string
	var remove bool
	var warm warmUp
	cmd := &cobra.Command{
		Use:   "alias [APP/]NAME [ALIAS [VERSION]]",
		Short: "List, make, move or remove aliases of a function",
		Example: `  covey alias hello                       # list
  covey alias hello canary 4              # make or move
  covey alias hello live 3 --split 4=0.1  # a tenth of the calls goes to version 4
  covey alias hello live 4 --warm auto    # once version 4 is as warm as what live names
  covey alias hello canary --delete`,
		Args: between(1, 3, "NAME, and an alias with a version"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			app, name, err := a.function(args[0])
			switch {
			case err != nil:
				return err
			case len(args) == 1:
				return a.listAliases(cmd, c, app, name)
			case remove:
				if err := c.DeleteAlias(cmd.Context(), app, name, args[1]); err != nil {
					return fmt.Errorf("remove alias %s: %w", args[1], err)
				}
				a.say("removed alias %s of %s/%s", args[1], app, name)
				return nil
			case len(args) == 2:
				return usagef("give the version that %s should name, or --delete", args[1])
			}
			change, err := aliasChange(args[2], split)
			if err != nil {
				return err
			}
			if err := warm.check(); err != nil {
				return err
			}
			if warm.wanted() {
				if err := a.warmAlias(cmd.Context(), c, &warm, app, name, args[1], &change); err != nil {
					return fmt.Errorf("move alias %s: %w", args[1], err)
				}
			}
			alias, err := c.PutAlias(cmd.Context(), app, name, args[1], change, 0)
			if err != nil {
				return fmt.Errorf("move alias %s: %w", args[1], err)
			}
			return a.showAlias(app, name, alias)
		}),
	}
	cmd.Flags().StringVar(&split, "split", "", "VERSION=PART: send a part of the calls, 0 to 1, to a second version")
	cmd.Flags().BoolVar(&remove, "delete", false, "remove the alias")
	warm.flags(cmd)
	return cmd
}

// aliasChange reads VERSION and the --split flag.
func aliasChange(version, split string) (wire.AliasChange, error) {
	var change wire.AliasChange
	var err error
	if version != "$LATEST" {
		if change.Version, err = strconv.ParseUint(version, 10, 64); err != nil || change.Version == 0 {
			return change, usagef("%q is neither a version nor $LATEST", version)
		}
	}
	if split == "" {
		return change, nil
	}
	other, weight, _ := strings.Cut(split, "=")
	var bad error
	change.Other, err = strconv.ParseUint(other, 10, 64)
	change.OtherWeight, bad = strconv.ParseFloat(weight, 64)
	if errors.Join(err, bad) != nil || change.OtherWeight <= 0 || change.OtherWeight >= 1 {
		return change, usagef("--split %q is not VERSION=PART with a part between 0 and 1", split)
	}
	return change, nil
}

// listAliases prints the aliases of a function.
func (a *app) listAliases(cmd *cobra.Command, c *client.Client, app, name string) error {
	aliases, err := c.Aliases(cmd.Context(), app, name)
	if err != nil {
		return fmt.Errorf("list aliases of %s/%s: %w", app, name, err)
	}
	if a.json() {
		return a.printJSON(aliases)
	}
	t := newTable("ALIAS", "VERSION", "REVISION", "UPDATED")
	for _, alias := range aliases {
		t.row(alias.Name, aliasTarget(alias), alias.Revision, alias.Updated)
	}
	return t.write(a.env.Stdout)
}

// showAlias prints where an alias leads now.
func (a *app) showAlias(app, name string, alias *wire.Alias) error {
	if a.json() {
		return a.printJSON(alias)
	}
	_, err := fmt.Fprintf(a.env.Stdout, "%s/%s:%s -> %s\n", app, name, alias.Name, aliasTarget(*alias))
	return err
}

// rollbackCommand is `covey rollback`. Which version is "the one before" is decided
// by the node, under the revision that it saw.
func (a *app) rollbackCommand() *cobra.Command {
	var request wire.RollbackRequest
	cmd := &cobra.Command{
		Use: "rollback [APP/]NAME", Short: "Move an alias back to an older version",
		Example: "  covey rollback hello\n  covey rollback hello --to 2",
		Args:    exactly(1, "NAME"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			app, name, err := a.function(args[0])
			if err != nil {
				return err
			}
			alias, err := c.Rollback(cmd.Context(), app, name, request)
			if err != nil {
				return fmt.Errorf("roll back %s: %w", args[0], err)
			}
			return a.showAlias(app, name, alias)
		}),
	}
	cmd.Flags().StringVar(&request.Alias, "alias", "live", "alias to move")
	cmd.Flags().Uint64Var(&request.Version, "to", 0, "version to go to (default the one before)")
	return cmd
}
