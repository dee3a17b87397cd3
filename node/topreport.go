package node

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// report puts together what the nodes answered last.
func (w *topWatch) report() api.Top {
	n := w.node
	view, alive, leader := n.cluster.View(), n.alive(), n.cluster.Leader()
	out := api.Top{
		Time: n.cfg.Clock.Now(), WindowMS: w.window.Milliseconds(), ClusterID: string(n.cluster.ClusterID()),
		Nodes: []wire.TopNode{}, Functions: []wire.TopFunction{},
	}
	functions := map[state.VersionKey]*topSum{}
	for _, m := range view.Members() {
		if m.ID == leader {
			out.Leader = m.Name
		}
		node := wire.TopNode{
			ID: string(m.ID), Name: m.Name, Role: roleName(m.Role), Leader: m.ID == leader,
			Alive: m.ID == n.cluster.ID() || alive[m.ID], Draining: m.Draining,
		}
		if node.Alive {
			out.Alive++
		}
		if seen := w.nodes[m.ID]; seen == nil || !seen.answered {
			node.Error = "did not answer"
		} else {
			seen.describe(&node)
			seen.addTo(functions)
		}
		out.CallsPerSecond += node.CallsPerSecond
		out.InFlight += node.InFlight
		out.Queued += node.Queued
		out.Nodes = append(out.Nodes, node)
	}
	slices.SortFunc(out.Nodes, func(a, b wire.TopNode) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for _, node := range out.Nodes {
		if node.Error != "" {
			out.Missing = append(out.Missing, node.Name)
		}
	}
	for key, sum := range functions {
		out.Functions = append(out.Functions, sum.finish(view, key))
	}
	slices.SortFunc(out.Functions, func(a, b wire.TopFunction) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// describe fills in what only the node itself knows.
func (n *watched) describe(node *wire.TopNode) {
	s := n.reply.GetStatus()
	node.MemoryUsedBytes, node.MemoryBudgetBytes = s.GetMemoryUsedBytes(), s.GetMemoryBudgetBytes()
	node.Busy, node.Starting = int(n.reply.GetBusy()), int(n.reply.GetStarting())
	// The two are read one after the other, so an instance may be in both.
	node.Idle = max(int(s.GetInstances())-node.Busy, 0)
	node.InFlight, node.Queued = int(s.GetInFlight()), int(s.GetQueued())
	if n.cpuIsTold {
		percent := math.Round(1e3*n.cpu) / 10
		node.CPUPercent = &percent
	}
	var ran uint64
	for _, v := range n.changed {
		ran += v.Ran
	}
	node.CallsPerSecond = perSecond(ran, n.window)
}

// topSum is a version's traffic on all nodes.
type topSum struct {
	wire.TopFunction
	counts invoke.Counts
	times  invoke.Histogram
}

// addTo adds the node's part of each version.
func (n *watched) addTo(functions map[state.VersionKey]*topSum) {
	of := func(key state.VersionKey) *topSum {
		sum := functions[key]
		if sum == nil {
			sum = &topSum{TopFunction: wire.TopFunction{App: string(key.App), Function: string(key.Function), Version: uint64(key.Number)}}
			functions[key] = sum
		}
		return sum
	}
	for _, f := range n.reply.GetStatus().GetFunctions() {
		sum := of(state.VersionKey{App: state.AppName(f.GetApp()), Function: state.FunctionName(f.GetFunction()), Number: state.VersionNumber(f.GetVersion())})
		sum.Instances += int(f.GetInstances())
		sum.Starting += int(f.GetStarting())
		sum.InFlight += int(f.GetInFlight())
		sum.Queued += int(f.GetQueued())
		if f.GetInstances() > 0 {
			sum.Nodes++
		}
	}
	for key, v := range n.changed {
		sum := of(key)
		sum.counts.Add(&v.Counts)
		sum.times.Add(&v.Times)
		sum.CallsPerSecond += perSecond(v.Calls, n.window)
		sum.ErrorsPerSecond += perSecond(v.Errors, n.window)
	}
}

// finish turns the sums into what is shown.
func (s *topSum) finish(view *state.View, key state.VersionKey) wire.TopFunction {
	f := s.TopFunction
	if function := view.Function(key.App, key.Function); function != nil {
		for _, a := range function.Aliases {
			if a.Version == key.Number || a.Other == key.Number {
				f.Aliases = append(f.Aliases, string(a.Name))
			}
		}
	}
	f.Calls, f.Errors, f.Cold = s.counts.Calls, s.counts.Errors, s.counts.Cold
	f.Forwarded, f.Resent = s.counts.Forwarded, s.counts.Resent
	if f.Calls == 0 {
		return f
	}
	ratio := min(float64(f.Cold)/float64(f.Calls), 1) // a call may be half counted
	f.ColdRatio = &ratio
	f.P50MS, f.P99MS = quantileMS(&s.times, 0.5), quantileMS(&s.times, 0.99)
	return f
}

// quantileMS is a quantile in milliseconds, nil when there is none.
func quantileMS(h *invoke.Histogram, q float64) *float64 {
	if h.Count() == 0 {
		return nil
	}
	ms := float64(h.Quantile(q)) / float64(time.Millisecond)
	return &ms
}

func perSecond(n uint64, window time.Duration) float64 {
	if window <= 0 {
		return 0
	}
	return math.Round(1e3*float64(n)/window.Seconds()) / 1e3
}
