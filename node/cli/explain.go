package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// barWidth is how many columns the longest step of a call takes.
const barWidth = 40

// explainCommand is `covey explain`.
func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain REQUEST_ID",
		Short: "Show where a call went, why there, and what took how long",
		Long: `Explain shows the record of one call: the attempts, why each went where it did,
cold or warm, and the time of each step. Nodes remember their newest calls only.`,
		Example: "  covey explain 01JD3Y3K9V6T5R0ZC8M2B1X4QF",
		Args:    exactly(1, "REQUEST_ID"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			record, err := c.Explain(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("explain %s: %w", args[0], err)
			}
			if a.json() {
				return a.printJSON(record)
			}
			return timeline(a.env.Stdout, record)
		}),
	}
}

// timeline writes a record for people.
func timeline(w io.Writer, r *wire.Record) error {
	t := newTable("request", r.RequestID)
	t.row("function", fmt.Sprintf("%s/%s:%d", r.App, r.Function, r.Version))
	t.row("caller", r.Caller)
	if r.Keyed {
		t.row("key", "the call came with a key, which chooses the version of a split alias and, with affinity, the node")
	}
	t.row("entered", fmt.Sprintf("%s on node %s", r.Start.Local().Format("2006-01-02 15:04:05.000"), r.Entry))
	t.row("outcome", fmt.Sprintf("%s after %s", r.Outcome, millis(r.Took)))
	if r.Error != "" {
		t.row("error", r.Error)
	}
	t.row("body", fmt.Sprintf("%s in, %s out", size(r.BytesIn), size(r.BytesOut)))
	if r.Usage.Billed > 0 {
		t.row("charged", fmt.Sprintf("%s billed, %s CPU, %s of %s memory", millis(r.Usage.Billed), millis(r.Usage.CPU),
			size(r.Usage.MemoryPeak), size(r.Usage.MemoryLimit)))
	}
	if err := t.write(w); err != nil {
		return err
	}
	for i, attempt := range r.Attempts {
		if err := showAttempt(w, i+1, &attempt); err != nil {
			return err
		}
	}
	return nil
}

// showAttempt writes one sending of the call: its steps one below the other, each
// with when it began, how long it took, and a bar to see the longest by.
func showAttempt(w io.Writer, number int, at *wire.AttemptRecord) error {
	start := "warm"
	if at.Cold {
		start = "cold"
	}
	if _, err := fmt.Fprintf(w, "\nattempt %d on node %s, %s, %s\n  why there: %s\n", number, at.Node, start, millis(at.Took), at.Reason); err != nil {
		return err
	}
	var longest time.Duration
	for _, s := range at.Steps {
		longest = max(longest, s.Took)
	}
	t := &table{}
	var begin time.Duration
	for _, s := range at.Steps {
		t.row("  "+s.Name, "+"+millis(begin), millis(s.Took), bar(s.Took, longest))
		begin += s.Took
	}
	if err := t.write(w); err != nil {
		return err
	}
	if at.Error == "" {
		return nil
	}
	started := "the function did not start"
	if at.Started {
		started = "the function may have started"
	}
	_, err := fmt.Fprintf(w, "  failed: %s (%s)\n", at.Error, started)
	return err
}

// bar shows a step's share of the longest one.
func bar(d, longest time.Duration) string {
	if longest <= 0 || d <= 0 {
		return ""
	}
	return strings.Repeat("#", max(1, int(barWidth*d/longest)))
}
