package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodepb"
	"github.com/covey-dev/covey/node/usage"
)

// Usage implements api.Operations: the committed hours, and what the live nodes
// have metered since. Nodes that did not answer are named.
func (o operations) Usage(ctx context.Context, query api.UsageQuery) (api.UsageReport, error) {
	n := o.node
	until := query.Until
	if until.IsZero() {
		until = n.cfg.Clock.Now().Add(time.Hour)
	}
	sums := map[usageKey]*wire.UsageRow{}
	add := func(row wire.UsageRow) {
		if (query.Function != "" && row.Function != query.Function) || row.Hour.Before(query.Since) || !row.Hour.Before(until) {
			return
		}
		key := usageKey{row.App, row.Function, row.Hour.Unix()}
		if sums[key] == nil {
			sums[key] = &wire.UsageRow{App: row.App, Function: row.Function, Hour: row.Hour}
		}
		addUsage(sums[key], &row)
	}
	for span := range n.cluster.View().Usage(query.Since, until, state.AppName(query.App)) {
		add(committedRow(span))
	}
	var mu sync.Mutex // guards add and answered
	answered := map[state.NodeID]bool{}
	n.ask(ctx, func(ctx context.Context, m *state.Member, a answerer) error {
		reply, err := a.Usage(ctx, &nodepb.UsageRequest{App: query.App})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		answered[m.ID] = true
		for _, r := range reply.GetRows() {
			add(openRow(r))
		}
		return nil
	})
	report := api.UsageReport{Rows: []wire.UsageRow{}}
	for _, row := range sums {
		report.Rows = append(report.Rows, *row)
	}
	slices.SortFunc(report.Rows, func(a, b wire.UsageRow) int {
		return cmp.Or(a.Hour.Compare(b.Hour), cmp.Compare(a.App, b.App), cmp.Compare(a.Function, b.Function))
	})
	for _, m := range n.cluster.View().Members() {
		if !answered[m.ID] {
			report.Missing = append(report.Missing, m.Name)
		}
	}
	return report, nil
}

type usageKey struct {
	app, function string
	hour          int64
}

func addUsage(to, row *wire.UsageRow) {
	to.Invocations += row.Invocations
	to.Errors += row.Errors
	to.ColdStarts += row.ColdStarts
	to.BilledMS += row.BilledMS
	to.InitMS += row.InitMS
	to.CPUMS += row.CPUMS
	to.MemoryMiBMS += row.MemoryMiBMS
	to.BytesIn += row.BytesIn
	to.BytesOut += row.BytesOut
}

func committedRow(span *state.UsageSpan) wire.UsageRow {
	u := span.Usage
	return wire.UsageRow{
		App: u.GetApp(), Function: u.GetFunction(), Hour: span.Start, Invocations: u.GetInvocations(), Errors: u.GetErrors(),
		ColdStarts: u.GetColdStarts(), BilledMS: u.GetBilledMs(), InitMS: u.GetColdMs(), CPUMS: u.GetCpuMs(),
		MemoryMiBMS: u.GetMemoryMibMs(), BytesIn: u.GetBytesIn(), BytesOut: u.GetBytesOut(),
	}
}

func openRow(r *nodepb.UsageRow) wire.UsageRow {
	return wire.UsageRow{
		App: r.GetApp(), Function: r.GetFunction(), Hour: time.Unix(r.GetHourUnix(), 0), Invocations: r.GetInvocations(), Errors: r.GetErrors(),
		ColdStarts: r.GetColdStarts(), BilledMS: r.GetBilledMs(), InitMS: r.GetInitMs(), CPUMS: r.GetCpuMs(),
		MemoryMiBMS: r.GetMemoryMibMs(), BytesIn: r.GetBytesIn(), BytesOut: r.GetBytesOut(),
	}
}

func usageToPB(r usage.Row) *clusterpb.Usage {
	return &clusterpb.Usage{
		App: r.App, Function: r.Function, Invocations: r.Invocations, Errors: r.Errors, BilledMs: r.BilledMS,
		MemoryMibMs: r.MemoryMiBMS, CpuMs: r.CPUMS, BytesIn: r.BytesIn, BytesOut: r.BytesOut, ColdStarts: r.ColdStarts, ColdMs: r.InitMS,
	}
}
