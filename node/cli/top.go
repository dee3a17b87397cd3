package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// topCommand is `covey top`.
func (a *app) topCommand() *cobra.Command {
	var names []string
	for _, s := range topSorts() {
		names = append(names, s.name)
	}
	var once bool
	interval, order := time.Second, topOrder{}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the cluster: nodes, functions, rates and response times",
		Long: `Top shows what the whole cluster does, anew at the end of each interval. Any node can
be asked; it asks the others. One that does not answer is shown as such.

Nodes: CPU is of the whole machine, MEMORY the limits of its instances of what they may
have together, CALLS/S what ran there. Functions: CALLS/S, ERRORS/S, COLD (calls that waited
for an instance to start), P50 and P99 (response times, off by at most a sixteenth) are of
the last interval and count calls that are over; WARM is instances, and how many more are
starting, on how many nodes.

Keys: q ends it, r reverses the order, and the order is by
  c calls/s   n name   f in flight   u queued   w warm   o cold   e errors/s   5 p50   9 p99

Without a terminal it prints plain tables, and with -o json one line of JSON for each
interval.`,
		Example: `  covey top
  covey top --sort p99 --interval 5s
  covey top --once --interval 10s
  covey top -o json | jq .calls_per_second`,
		Args: none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			if interval < 100*time.Millisecond || interval > time.Minute {
				return usagef("--interval must be from 100ms to 1m")
			}
			if !slices.Contains(names, order.by) {
				return usagef("--sort %q is none of %s", order.by, strings.Join(names, ", "))
			}
			query := wire.TopQuery{Interval: interval}
			if once {
				query.Count = 1
			}
			if once || a.json() || !terminal(a.env.Stdout) || !terminal(a.env.Stdin) {
				return a.printTop(cmd.Context(), c, query, order)
			}
			return a.watchTop(cmd.Context(), c, query, order)
		}),
	}
	f := cmd.Flags()
	f.DurationVar(&interval, "interval", interval, "time between two reports, which they are about")
	f.StringVar(&order.by, "sort", "calls", "order: "+strings.Join(names, ", "))
	f.BoolVar(&order.reverse, "reverse", false, "the smallest first")
	f.BoolVar(&once, "once", false, "print one report and end")
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// printTop prints reports one below the other.
func (a *app) printTop(ctx context.Context, c *client.Client, query wire.TopQuery, order topOrder) error {
	first := true
	for top, err := range c.Top(ctx, query) {
		if err != nil {
			return fmt.Errorf("watch cluster: %w", err)
		}
		if a.json() {
			if err := json.NewEncoder(a.env.Stdout).Encode(top); err != nil {
				return err
			}
			continue
		}
		text := strings.Join(topLines(&top, order, 0, 0), "\n") + "\n"
		if !first {
			text = "\n" + text
		}
		first = false
		if _, err := fmt.Fprint(a.env.Stdout, text); err != nil {
			return err
		}
	}
	if ctx.Err() == nil && (first || query.Count == 0) && !a.json() {
		return fmt.Errorf("the node ended the stream, as one does that stops: %w", client.ErrUnavailable)
	}
	return ctx.Err()
}
