package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// logsCommand is `covey logs`.
func (a *app) logsCommand() *cobra.Command {
	var query wire.LogQuery
	var since string
	cmd := &cobra.Command{
		Use:   "logs [[APP/]NAME]",
		Short: "Show what functions logged",
		Long: `Logs shows the lines of a function, or of all functions of the app, oldest first.
Lines stay readable after the instance that wrote them is gone. With -o json each
line is one JSON object.`,
		Example: `  covey logs hello
  covey logs hello -f
  covey logs --request 01JD3Y3K9V6T5R0ZC8M2B1X4QF
  covey logs hello --since 10m --tail 100`,
		Args: between(0, 1, "NAME"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			query.App = a.appName
			if len(args) == 1 {
				var err error
				if query.App, query.Function, err = a.function(args[0]); err != nil {
					return err
				}
			}
			if since != "" {
				t, err := moment(since)
				if err != nil {
					return usagef("--since: %w", err)
				}
				query.Since = t
			}
			for line, err := range c.Logs(cmd.Context(), query) {
				if err != nil {
					return fmt.Errorf("read logs: %w", err)
				}
				if err := a.showLine(line); err != nil {
					return err
				}
			}
			return cmd.Context().Err()
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&query.Follow, "follow", "f", false, "stay for new lines")
	f.StringVar(&query.RequestID, "request", "", "lines of one request alone")
	f.IntVar(&query.Tail, "tail", 0, "the newest lines alone, 0 for all")
	f.StringVar(&since, "since", "", "lines from a time (RFC 3339) or a duration ago")
	return cmd
}

// moment reads a time, or a duration back from now.
func moment(text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither an RFC 3339 time nor a duration", text)
	}
	return t, nil
}

// showLine prints one log line; what varies in length comes last.
func (a *app) showLine(line wire.LogLine) error {
	if a.json() {
		return json.NewEncoder(a.env.Stdout).Encode(line)
	}
	level := line.Level
	if level == "" {
		level = line.Stream
	}
	id := line.RequestID
	if id == "" {
		id = "-"
	}
	_, err := fmt.Fprintf(a.env.Stdout, "%s %s/%s:%d %s %s %s\n", line.Time.Local().Format("2006-01-02T15:04:05.000"),
		line.App, line.Function, line.Version, id, level, line.Text)
	return err
}

// usageCommand is `covey usage`.
func (a *app) usageCommand() *cobra.Command {
	var function, since, until string
	var all, hourly bool
	var perGBSecond, perMillion float64
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show what functions used",
		Long: `Usage adds up what each function of the app used: committed hours, and what the
nodes have metered since. Nodes that did not answer are named. With prices it
estimates a cost.`,
		Example: `  covey usage --since 24h
  covey usage --all -o json
  covey usage --price-gb-second 0.0000166667 --price-million 0.20`,
		Args: none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			query := wire.UsageQuery{App: a.appName, Function: function}
			if all {
				query.App = ""
			}
			for _, bound := range []struct {
				flag, text string
				to         *time.Time
			}{{"since", since, &query.Since}, {"until", until, &query.Until}} {
				if bound.text == "" {
					continue
				}
				t, err := moment(bound.text)
				if err != nil {
					return usagef("--%s: %w", bound.flag, err)
				}
				*bound.to = t
			}
			report, err := c.Usage(cmd.Context(), query)
			if err != nil {
				return fmt.Errorf("read usage: %w", err)
			}
			if a.json() {
				return a.printJSON(report)
			}
			for _, node := range report.Missing {
				a.say("node %s did not answer: its last hour is missing", node)
			}
			return a.showUsage(report.Rows, hourly, perGBSecond, perMillion)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&function, "function", "", "one function alone")
	f.StringVar(&since, "since", "", "from a time (RFC 3339) or a duration ago")
	f.StringVar(&until, "until", "", "up to a time (RFC 3339) or a duration ago")
	f.BoolVar(&all, "all", false, "functions of all apps")
	f.BoolVar(&hourly, "hourly", false, "a line for each hour")
	f.Float64Var(&perGBSecond, "price-gb-second", 0, "price of a GiB of memory for a second")
	f.Float64Var(&perMillion, "price-million", 0, "price of a million calls")
	return cmd
}

// showUsage prints rows, added up by function unless hourly is set.
func (a *app) showUsage(rows []wire.UsageRow, hourly bool, perGBSecond, perMillion float64) error {
	if !hourly {
		rows = addUp(rows)
	}
	t := newTable("FUNCTION", "HOUR", "CALLS", "ERRORS", "COLD", "BILLED", "CPU", "GB-SECONDS", "IN", "OUT", "COST")
	for _, r := range rows {
		hour := "all"
		if hourly {
			hour = cell(r.Hour)
		}
		gbSeconds := float64(r.MemoryMiBMS) / 1024 / 1000
		cost := "-"
		if perGBSecond > 0 || perMillion > 0 {
			cost = fmt.Sprintf("%.6f", gbSeconds*perGBSecond+float64(r.Invocations)*perMillion/1e6)
		}
		t.row(r.App+"/"+r.Function, hour, r.Invocations, r.Errors, r.ColdStarts, time.Duration(r.BilledMS)*time.Millisecond,
			time.Duration(r.CPUMS)*time.Millisecond, fmt.Sprintf("%.3f", gbSeconds), size(r.BytesIn), size(r.BytesOut), cost)
	}
	return t.write(a.env.Stdout)
}

// addUp merges the hours of each function, in the order of first appearance.
func addUp(rows []wire.UsageRow) []wire.UsageRow {
	var sums []wire.UsageRow
	at := map[[2]string]int{}
	for _, r := range rows {
		key := [2]string{r.App, r.Function}
		i, ok := at[key]
		if !ok {
			at[key] = len(sums)
			sums = append(sums, r)
			continue
		}
		s := &sums[i]
		s.Invocations += r.Invocations
		s.Errors += r.Errors
		s.ColdStarts += r.ColdStarts
		s.BilledMS += r.BilledMS
		s.InitMS += r.InitMS
		s.CPUMS += r.CPUMS
		s.MemoryMiBMS += r.MemoryMiBMS
		s.BytesIn += r.BytesIn
		s.BytesOut += r.BytesOut
	}
	return sums
}
