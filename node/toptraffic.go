package node

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/nodepb"
)

// Top implements api.Operations: it asks all nodes at once for their counters, and
// again after each interval, and yields the difference. An interval is longer when
// a node makes it wait; the rates are of the time that really passed.
func (o operations) Top(ctx context.Context, query api.TopQuery) iter.Seq[api.Top] {
	return func(yield func(api.Top) bool) {
		watch := &topWatch{node: o.node, nodes: map[state.NodeID]*watched{}, patience: topPatience(query.Interval)}
		watch.look(ctx)
		tick := time.NewTicker(query.Interval)
		defer tick.Stop()
		for n := 0; query.Count == 0 || n < query.Count; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			watch.look(ctx)
			if ctx.Err() != nil || !yield(watch.report()) {
				return
			}
		}
	}
}

// topPatience is how long a node may take to answer: about an interval, so that a
// silent one does not hold up the view of the others.
func topPatience(interval time.Duration) time.Duration {
	return min(max(interval, 500*time.Millisecond), askTimeout)
}

// topWatch is what one viewer of the cluster knows of its nodes.
type topWatch struct {
	node     *Node
	patience time.Duration
	last     time.Time // when look was called last
	window   time.Duration

	mu    sync.Mutex
	nodes map[state.NodeID]*watched // guarded by mu
}

// watched is one node's newest answer, and its counters as of that.
type watched struct {
	reply    *nodepb.TrafficReply
	versions map[state.VersionKey]*invoke.VersionTraffic
	// answered tells whether it answered the last question.
	answered bool
	// window is the time between its last two answers, zero while there are no two
	// of one boot. calls and the others are what changed in it.
	window    time.Duration
	changed   map[state.VersionKey]*invoke.VersionTraffic
	cpu       float64 // of all processors, 0 to 1
	cpuIsTold bool
}

// look asks all nodes.
func (w *topWatch) look(ctx context.Context) {
	now := time.Now()
	w.window, w.last = now.Sub(w.last), now
	members := map[state.NodeID]bool{}
	w.mu.Lock()
	for _, m := range w.node.cluster.View().Members() {
		members[m.ID] = true
		if w.nodes[m.ID] == nil {
			w.nodes[m.ID] = &watched{}
		}
	}
	for id, n := range w.nodes {
		n.answered = false
		if !members[id] {
			delete(w.nodes, id)
		}
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	w.node.ask(ctx, func(ctx context.Context, m *state.Member, a answerer) error {
		w.mu.Lock()
		n := w.nodes[m.ID]
		w.mu.Unlock()
		if n == nil {
			return nil // joined since; the next look has it
		}
		// Nobody else touches n: a member is asked once at a time.
		reply, err := a.Traffic(ctx, &nodepb.TrafficRequest{Since: n.reply.GetSample(), Boot: n.reply.GetBoot()})
		if err == nil {
			n.take(reply)
		}
		return err
	})
}

// take makes a reply the newest one.
func (n *watched) take(reply *nodepb.TrafficReply) {
	before := n.reply
	if before.GetBoot() != reply.GetBoot() {
		// The first answer, or the first of another boot, holds all.
		before, n.versions = nil, map[state.VersionKey]*invoke.VersionTraffic{}
	}
	n.answered, n.reply = true, reply
	n.window, n.cpuIsTold = 0, false
	n.changed = map[state.VersionKey]*invoke.VersionTraffic{}
	for _, v := range reply.GetVersions() {
		now := trafficFromPB(v)
		if before != nil {
			n.changed[now.Key] = now.Since(n.versions[now.Key])
		}
		n.versions[now.Key] = now
	}
	if before == nil {
		return
	}
	n.window = time.Duration(reply.GetUptimeNanos() - before.GetUptimeNanos())
	if total := reply.GetCpuTotal(); total > before.GetCpuTotal() && reply.GetCpuBusy() >= before.GetCpuBusy() {
		n.cpu = float64(reply.GetCpuBusy()-before.GetCpuBusy()) / float64(total-before.GetCpuTotal())
		n.cpuIsTold = true
	}
}

// Traffic implements nodepb.QuestionsServer.
func (q *questions) Traffic(_ context.Context, req *nodepb.TrafficRequest) (*nodepb.TrafficReply, error) {
	n := q.node
	since := req.GetSince()
	if req.GetBoot() != n.cluster.Boot() {
		since = 0
	}
	versions, sample := n.path.Traffic().Sample(since)
	busy, total := machineTicks()
	reply := &nodepb.TrafficReply{
		Boot: n.cluster.Boot(), Sample: sample, UptimeNanos: int64(time.Since(n.booted)), CpuBusy: busy, CpuTotal: total,
		Status: n.selfStatus(),
	}
	for _, in := range n.exec.Instances() {
		switch in.State {
		case executor.StateBusy:
			reply.Busy++
		case executor.StateStarting:
			reply.Starting++
		default:
		}
	}
	for i := range versions {
		reply.Versions = append(reply.Versions, trafficToPB(&versions[i]))
	}
	return reply, nil
}

func trafficToPB(v *invoke.VersionTraffic) *nodepb.VersionTraffic {
	out := &nodepb.VersionTraffic{
		App: string(v.Key.App), Function: string(v.Key.Function), Version: uint64(v.Key.Number),
		Calls: v.Calls, Errors: v.Errors, Cold: v.Cold, Forwarded: v.Forwarded, Resent: v.Resent, Ran: v.Ran,
	}
	for bucket, count := range v.Times {
		if count > 0 {
			out.Buckets, out.Counts = append(out.Buckets, uint32(bucket)), append(out.Counts, count)
		}
	}
	return out
}

// trafficFromPB trusts another node for its counts, but not for their places.
func trafficFromPB(v *nodepb.VersionTraffic) *invoke.VersionTraffic {
	out := &invoke.VersionTraffic{
		Key: state.VersionKey{App: state.AppName(v.GetApp()), Function: state.FunctionName(v.GetFunction()), Number: state.VersionNumber(v.GetVersion())},
		Counts: invoke.Counts{
			Calls: v.GetCalls(), Errors: v.GetErrors(), Cold: v.GetCold(), Forwarded: v.GetForwarded(), Resent: v.GetResent(), Ran: v.GetRan(),
		},
	}
	for i, bucket := range v.GetBuckets() {
		if bucket < invoke.Buckets && i < len(v.GetCounts()) {
			out.Times[bucket] = v.GetCounts()[i]
		}
	}
	return out
}
