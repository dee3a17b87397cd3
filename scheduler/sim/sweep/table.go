package sweep

import (
	"fmt"
	"strings"

	"github.com/covey-dev/covey/scheduler/sim"
)

// columns are those of the table, from the name on.
var columns = []struct {
	head string
	of   func(r, bound *sim.Report) string
}{
	{"policy", func(r, _ *sim.Report) string { return r.Policy }},
	{"geo. mean p99", func(r, _ *sim.Report) string { return number(r.Geometric) }},
	{"to bound", func(r, b *sim.Report) string { return fmt.Sprintf("%+.0f %%", 100*(r.Geometric/b.Geometric-1)) }},
	{"p50", func(r, _ *sim.Report) string { return number(r.P50) }},
	{"p99", func(r, _ *sim.Report) string { return number(r.P99) }},
	{"p99.9", func(r, _ *sim.Report) string { return number(r.P999) }},
	{"cold calls", func(r, _ *sim.Report) string { return percent(r.Cold) }},
	{"cold by function", func(r, _ *sim.Report) string { return percent(r.ColdFunctions) }},
	{"imbalance", func(r, _ *sim.Report) string { return number(r.Imbalance) }},
	{"busy CPU", func(r, _ *sim.Report) string { return percent(r.Utilization) }},
	{"forwards", func(r, _ *sim.Report) string { return percent(r.Forwards) }},
	{"refusals", func(r, _ *sim.Report) string { return percent(r.Refusals) }},
	{"sent away", func(r, _ *sim.Report) string { return percent(r.Busy) }},
	{"messages", func(r, _ *sim.Report) string { return number(r.Messages) }},
	{"starts/s", func(r, _ *sim.Report) string { return number(r.Starts) }},
	{"evictions/s", func(r, _ *sim.Report) string { return number(r.Evictions) }},
	{"busy memory", func(r, _ *sim.Report) string { return percent(r.BusyMemory / max(r.Memory, 1)) }},
}

func number(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func percent(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) }

// markdown writes rows as a table.
func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(row)) + "\n")
		}
	}
	return b.String()
}

// Table is the table of the first cell.
func (rs *Results) Table() string {
	first := &rs.list[0]
	rows := [][]string{nil}
	for _, c := range columns {
		rows[0] = append(rows[0], c.head)
	}
	for _, r := range first.reports {
		var row []string
		for _, c := range columns {
			row = append(row, c.of(r, first.bound()))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// Sweeps is the geometric mean in every other cell.
func (rs *Results) Sweeps() string {
	rows := [][]string{{"cell", "nodes", "load"}}
	for _, r := range rs.list[0].reports {
		rows[0] = append(rows[0], r.Policy)
	}
	for i := range rs.list[1:] {
		res := &rs.list[i+1]
		row := []string{fmt.Sprintf("%s %v %s", res.group, res.at, res.unit), fmt.Sprint(res.nodes), fmt.Sprintf("%.0f %%", 100*res.load)}
		for _, r := range res.reports {
			row = append(row, number(r.Geometric))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}
