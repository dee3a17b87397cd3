package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
)

// backupCommand is `covey backup`.
func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of the cluster",
		Long: `Backup writes the state and the code of the cluster, at one index, to a file, or to
standard output with -. No keys are in it. The file appears when it is complete.`,
		Example: "  covey backup covey.backup\n  covey backup - | ssh vault 'cat > covey.backup'",
		Args:    exactly(1, "FILE"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if args[0] == "-" {
				if err := c.Backup(cmd.Context(), a.env.Stdout); err != nil {
					return fmt.Errorf("back up: %w", err)
				}
				return nil
			}
			size, err := writeWhole(args[0], func(w io.Writer) error { return c.Backup(cmd.Context(), w) })
			if err != nil {
				return fmt.Errorf("back up to %s: %w", args[0], err)
			}
			a.say("wrote %s (%d bytes)", args[0], size)
			return nil
		}),
	}
}

// writeWhole writes a file that either has all of its content, on the disk, or
// is not there.
func writeWhole(path string, fill func(io.Writer) error) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(fill(f), f.Sync()); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(f.Name(), path)
}
