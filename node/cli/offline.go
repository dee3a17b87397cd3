package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node"
)

// restoreCommand is `covey restore`. It works on a data directory, not through a
// node: the cluster that it makes does not exist yet.
func (a *app) restoreCommand() *cobra.Command {
	d := newDaemon()
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Found a new cluster from a backup",
		Long: `Restore fills an empty data directory with the first node of a new cluster that
has the functions, tokens and usage of a backup, from a file or from standard input
with -. Node and cluster get new ids. Access keys are left out and named: the key
that opens their secrets is in no backup. Start the node afterwards with covey
start, and let the other machines join it.`,
		Example: "  covey restore covey.backup --data-dir /var/lib/covey && covey start",
		Args:    exactly(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := d.config(a)
			if err != nil {
				return err
			}
			in := a.env.Stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usagef("read backup: %w", err)
				}
				defer f.Close()
				in = f
			}
			restored, err := node.Restore(cmd.Context(), cfg, in)
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			for _, k := range restored.LostKeys {
				a.say("access key %s is gone (%s): its secret cannot be opened any more; create another one", k.ID, orNothing(k.Description))
			}
			a.say("restored into %s; run covey start", cfg.DataDir)
			return nil
		},
	}
	d.identityFlags(cmd.Flags())
	d.logFlags(cmd.Flags())
	return cmd
}

// orNothing shows a description that may be empty.
func orNothing(text string) string {
	if text == "" {
		return "no description"
	}
	return text
}

// recoverCommand is `covey recover`. It reports by default and acts with --yes,
// because it throws away what only the lost voters had.
func (a *app) recoverCommand() *cobra.Command {
	d := newDaemon()
	var apply bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Bring back a cluster that lost its quorum for good",
		Long: `Recover makes this node the only voter, with what its disk holds. It is for a
cluster whose other voters are lost for good: changes that only they had are gone,
and their ids are burned. Run it on the survivor with the longest log, with its
daemon stopped. Without --yes it only reports what it would do.`,
		Example: "  covey recover --data-dir /var/lib/covey\n  covey recover --yes",
		Args:    none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := d.config(a)
			if err != nil {
				return err
			}
			report, err := node.Recover(cmd.Context(), cfg, !apply)
			if err != nil {
				return fmt.Errorf("recover: %w", err)
			}
			if a.json() {
				return a.printJSON(report)
			}
			t := newTable("log", fmt.Sprintf("%d to %d, term %d, snapshot at %d", report.First, report.Last, report.Term, report.Snapshot))
			t.row("commands replayed", report.Replayed)
			for _, id := range report.Removed {
				t.row("burned id", id)
			}
			if report.Backup != "" {
				t.row("old log kept in", report.Backup)
			}
			if err := t.write(a.env.Stdout); err != nil {
				return err
			}
			if !apply {
				_, err = io.WriteString(a.env.Stderr, "nothing was changed; give --yes to do it\n")
			}
			return err
		},
	}
	d.identityFlags(cmd.Flags())
	d.logFlags(cmd.Flags())
	cmd.Flags().BoolVar(&apply, "yes", false, "do it")
	return cmd
}
