package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// warmUp is what the flags say about warming a version up before an alias moves to it.
type warmUp struct {
	instances string
	timeout   time.Duration
}

func (w *warmUp) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.instances, "warm", "", "first start so many instances on each node where the alias is warm, or auto for as many as there are")
	f.DurationVar(&w.timeout, "warm-timeout", 2*time.Minute, "how long the instances may take before the alias stays where it is")
	_ = cmd.RegisterFlagCompletionFunc("warm", cobra.FixedCompletions([]string{"auto", "1", "2", "4"}, cobra.ShellCompDirectiveNoFileComp))
}

// wanted reports whether a warm-up was asked for.
func (w *warmUp) wanted() bool { return w.instances != "" }

// check says what is wrong with the flags.
func (w *warmUp) check() error {
	if !w.wanted() {
		return nil
	}
	if n, err := strconv.Atoi(w.instances); w.instances != "auto" && (err != nil || n < 1) {
		return usagef("--warm %q is neither a number from 1 on nor auto", w.instances)
	}
	if w.timeout <= 0 {
		return usagef("--warm-timeout must be positive")
	}
	return nil
}

// run waits until a version is warm, and says on standard error how far it is each time
// that something changes.
func (w *warmUp) run(ctx context.Context, a *app, c *client.Client, app, name, alias string, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	in := wire.WarmRequest{Alias: alias}
	in.Instances, _ = strconv.Atoi(w.instances) // auto is 0
	said := ""
	return c.WarmUp(ctx, app, name, version, in, func(r *wire.WarmReport) {
		parts := make([]string, len(r.Nodes))
		for i, at := range r.Nodes {
			parts[i] = fmt.Sprintf("%s %d/%d", at.Name, at.Ready, at.Wanted)
		}
		if text := strings.Join(parts, ", "); text != said {
			said = text
			a.say("warming up version %d: %s", version, text)
		}
	})
}

// deployWarm deploys a version, and moves "live" to it once it is warm. When that fails,
// the version is there and "live" is where it was.
func (a *app) deployWarm(ctx context.Context, c *client.Client, w *warmUp, app, name string, in wire.DeployRequest) (*wire.Deployed, error) {
	before, err := c.Function(ctx, app, name)
	if errors.Is(err, client.ErrNotFound) {
		return c.Deploy(ctx, app, name, in) // the first version, which replaces nothing
	}
	if err != nil {
		return nil, err
	}
	in.KeepLive = true
	version, err := c.Deploy(ctx, app, name, in)
	if err != nil {
		return nil, err
	}
	if err := w.run(ctx, a, c, app, name, "live", version.Number); err != nil {
		return nil, fmt.Errorf("version %d is deployed, but live stays at version %d: %w", version.Number, before.Live, err)
	}
	var revision uint64
	for _, alias := range before.Aliases {
		if alias.Name == "live" {
			revision = alias.Revision // if somebody else moved it meanwhile, it is his
		}
	}
	if _, err := c.PutAlias(ctx, app, name, "live", wire.AliasChange{Version: version.Number}, revision); err != nil {
		return nil, fmt.Errorf("version %d is deployed and warm, but live could not be moved to it: %w", version.Number, err)
	}
	return version, nil
}

// warmAlias warms up the versions that an alias is about to get and does not have.
func (a *app) warmAlias(ctx context.Context, c *client.Client, w *warmUp, app, name, alias string, change *wire.AliasChange) error {
	f, err := c.Function(ctx, app, name)
	if err != nil {
		return err
	}
	if change.Version == 0 {
		change.Version = f.Latest // what is warmed up is what it will name
	}
	has := map[uint64]bool{0: true}
	for _, old := range f.Aliases {
		if old.Name == alias {
			has[old.Version], has[old.Other] = true, true
		}
	}
	for _, version := range []uint64{change.Version, change.Other} {
		if has[version] {
			continue
		}
		if err := w.run(ctx, a, c, app, name, alias, version); err != nil {
			return fmt.Errorf("%s stays where it is: version %d: %w", alias, version, err)
		}
	}
	return nil
}
