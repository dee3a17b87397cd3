package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// barWidth is how many columns the longest step of a call takes.
const barWidth = 30

// explainCommand is `covey explain`.
func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain REQUEST_ID",
		Short: "Show where a call went, why there, and what took how long",
		Long: `Explain shows the record of one call: each node that it was sent to and why there, which
of them refused it, cold or warm, and the time of each step; the longest bar is the step to
look at. With -o json it prints the record as it is kept.

Nodes remember their newest calls only. The id is in the answer's X-Covey-Request-Id header
and in what covey invoke -v says.`,
		Example: `  covey explain 01JD3Y3K9V6T5R0ZC8M2B1X4QF
  covey explain 01JD3Y3K9V6T5R0ZC8M2B1X4QF -o json | jq '.attempts[-1].steps'`,
		Args: exactly(1, "REQUEST_ID"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			record, err := c.Explain(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("explain %s: %w", args[0], err)
			}
			if a.json() {
				return a.printJSON(record)
			}
			return timeline(a.env.Stdout, record, nodeNames(cmd.Context(), c))
		}),
	}
}

// nodeNames are the names of nodes by id. Whoever may not list nodes, or cannot just
// now, sees ids.
func nodeNames(ctx context.Context, c *client.Client) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	names := map[string]string{}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return names
	}
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	return names
}

// timeline writes a record for people.
func timeline(w io.Writer, r *wire.Record, names map[string]string) error {
	node := func(id string) string {
		if name := names[id]; name != "" {
			return name
		}
		return id
	}
	t := newTable("request", r.RequestID)
	t.row("function", fmt.Sprintf("%s/%s:%d", r.App, r.Function, r.Version))
	t.row("caller", r.Caller)
	if r.Keyed {
		t.row("key", "the call came with a key, which chooses the version of a split alias and, with affinity, the node")
	}
	t.row("entered", fmt.Sprintf("%s on node %s", r.Start.Local().Format("2006-01-02 15:04:05.000"), node(r.Entry)))
	t.row("outcome", fmt.Sprintf("%s after %s", r.Outcome, millis(r.Took)))
	if r.Error != "" {
		t.row("error", r.Error)
	}
	t.row("way", way(r, node))
	t.row("body", fmt.Sprintf("%s in, %s out", size(r.BytesIn), size(r.BytesOut)))
	if r.Usage.Billed > 0 {
		t.row("charged", fmt.Sprintf("%s billed, %s CPU, %s of %s memory", millis(r.Usage.Billed), millis(r.Usage.CPU),
			size(r.Usage.MemoryPeak), size(r.Usage.MemoryLimit)))
	}
	if err := t.write(w); err != nil {
		return err
	}
	for i := range r.Attempts {
		if err := showAttempt(w, i+1, &r.Attempts[i], node); err != nil {
			return err
		}
	}
	return nil
}

// way sums up the attempts in a line.
func way(r *wire.Record, node func(string) string) string {
	if len(r.Attempts) == 0 {
		return "sent nowhere: it ended before a node was chosen"
	}
	var refused, broken int
	for _, at := range r.Attempts {
		switch {
		case at.Error == "":
		case at.Started:
			broken++
		default:
			refused++
		}
	}
	last := r.Attempts[len(r.Attempts)-1]
	var parts []string
	if refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", refused))
	}
	if broken > 0 {
		parts = append(parts, fmt.Sprintf("%d broke off", broken))
	}
	switch {
	case last.Error != "":
		parts = append(parts, "no node answered")
	case last.Node == r.Entry:
		parts = append(parts, "ran where it entered")
	default:
		parts = append(parts, "forwarded to node "+node(last.Node))
	}
	if n := len(r.Attempts); n > 1 {
		return fmt.Sprintf("%d attempts: %s", n, strings.Join(parts, ", "))
	}
	return strings.Join(parts, ", ")
}

// showAttempt writes one sending of the call: its steps one below the other, each
// with when it began, how long it took, what it is, and a bar to see the longest by.
func showAttempt(w io.Writer, number int, at *wire.AttemptRecord, node func(string) string) error {
	state := "warm"
	switch {
	case at.Error != "" && at.Started:
		state = "broke off"
	case at.Error != "":
		state = "refused"
	case at.Cold:
		state = "cold start of " + millis(coldTime(at.Steps))
	}
	if _, err := fmt.Fprintf(w, "\nattempt %d on node %s, %s, %s\n  why there: %s\n",
		number, node(at.Node), state, millis(at.Took), reasonText(at.Reason)); err != nil {
		return err
	}
	steps := slices.Clone(at.Steps)
	if rest := unexplained(at); rest > at.Took/50 {
		steps = append(steps, wire.Step{Name: "other", Took: rest})
	}
	var longest time.Duration
	for _, s := range steps {
		longest = max(longest, s.Took)
	}
	t := &table{}
	var begin time.Duration
	for _, s := range steps {
		t.row("  "+s.Name, "+"+millis(begin), millis(s.Took), stepText(s.Name, number), bar(s.Took, longest))
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

// coldTime is what the call waited for an instance to be made.
func coldTime(steps []wire.Step) (sum time.Duration) {
	for _, s := range steps {
		switch s.Name {
		case "fetch", "spawn", "handshake", "init", "start": // the last is that of older nodes
			sum += s.Took
		}
	}
	return sum
}

// unexplained is the part of an attempt's time that no step has. What comes before
// the sending is none of the attempt's time.
func unexplained(at *wire.AttemptRecord) time.Duration {
	if len(at.Steps) == 0 {
		return 0
	}
	rest := at.Took
	for _, s := range at.Steps {
		if s.Name != "place" {
			rest -= s.Took
		}
	}
	return rest
}

// reasonText says what the scheduler's word means; a word of a newer node stands for
// itself.
func reasonText(reason string) string {
	text := map[string]string{
		"warm":     "it had a free warm instance, and the call was there already",
		"idle":     "it had told that an instance is idle",
		"choice":   "the cheaper of two candidates by what was known of their load",
		"widened":  "the usual candidates were too busy, so more nodes were looked at",
		"kept":     "the call was there already, and there was room",
		"last-hop": "the call may not be sent on again",
		"only":     "no other node was left that may run it",
		"key":      "the node that the call's key belongs to",
		"wait":     "no node had memory for it, so it waited where it came in until somebody gave some back",
	}[reason]
	if text == "" {
		return cell(reason)
	}
	return reason + ": " + text
}

// stepText says what a step is.
func stepText(name string, attempt int) string {
	if name == "place" && attempt > 1 {
		return "earlier attempts, and choosing a node"
	}
	return cell(map[string]string{
		"place":     "choosing a node",
		"queue":     "waiting for a free place",
		"fetch":     "getting and opening the code",
		"spawn":     "getting a process in its sandbox",
		"handshake": "until the process answered",
		"init":      "the function's own start-up",
		"start":     "starting an instance",
		"run":       "the function itself",
		"hop":       "to the other node and back",
		"other":     "in no step: waiting for a processor",
	}[name])
}

// bar shows a step's share of the longest one.
func bar(d, longest time.Duration) string {
	if longest <= 0 || d <= 0 {
		return ""
	}
	return strings.Repeat("#", max(1, int(barWidth*d/longest)))
}
