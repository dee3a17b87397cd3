package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/nodepb"
)

// warmer starts instances for other nodes' requests.
type warmer struct {
	nodepb.UnimplementedInstancesServer
	node *Node
}

// Warm implements nodepb.InstancesServer. A version that this node has not heard of yet
// is no failure: whoever waits asks again.
func (w *warmer) Warm(_ context.Context, req *nodepb.WarmRequest) (*nodepb.WarmReply, error) {
	return w.node.warmHere(state.VersionKey{
		App: state.AppName(req.GetApp()), Function: state.FunctionName(req.GetFunction()), Number: state.VersionNumber(req.GetVersion()),
	}, int(req.GetInstances())), nil
}

// warmHere has instances of a version started on this node.
func (n *Node) warmHere(key state.VersionKey, instances int) *nodepb.WarmReply {
	view := n.cluster.View()
	reply := &nodepb.WarmReply{Wanted: int64(instances)}
	ver := view.Version(key)
	if ver == nil {
		reply.Problem = "has not heard of it yet"
		return reply
	}
	spec, ok := invoke.SpecOn(view, n.cluster.ID(), ver)
	if !ok {
		reply.Problem = "may not run it now"
		return reply
	}
	if spec.Max > 0 {
		instances = min(instances, spec.Max)
		reply.Wanted = int64(instances)
	}
	if err := n.exec.Warm(&spec, instances); err != nil {
		reply.Problem = err.Error()
		return reply
	}
	load := n.exec.Load(spec.Key)
	reply.Ready, reply.Starting = int64(load.Instances), int64(load.Starting)
	for _, f := range n.exec.Failing() {
		if f.Key == spec.Key && load.Instances < instances {
			reply.Problem = f.Reason
			reply.Failed = load.Starting == 0 && !f.Until.IsZero() // it will not start for a while
		}
	}
	return reply
}

// warmTimeout bounds one round of questions. Nothing is waited for in it.
const warmTimeout = 5 * time.Second

// Warm implements api.Operations.
func (o operations) Warm(ctx context.Context, ver *state.Version, like []state.VersionNumber, in wire.WarmRequest) wire.WarmReport {
	n := o.node
	plan := in.Nodes
	if len(plan) == 0 {
		plan = n.warmPlan(ctx, ver, like, in.Instances)
	}
	report := wire.WarmReport{Version: uint64(ver.Key.Number), Ready: len(plan) > 0, Nodes: make([]wire.WarmNode, len(plan))}
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for i, at := range plan {
		asked.Go(func() { report.Nodes[i] = n.warmOn(ctx, ver.Key, at) })
	}
	asked.Wait()
	for _, at := range report.Nodes {
		report.Ready = report.Ready && at.Ready >= at.Wanted
		report.Failed = report.Failed || at.Failed
	}
	return report
}

// warmPlan chooses the nodes on which a version is warmed up: those on which the
// versions are warm whose calls it will get, as far as they may run it, and from the
// ring as many others as are missing, but one at least. With no number of instances
// given, a node gets as many as it has of those versions.
func (n *Node) warmPlan(ctx context.Context, ver *state.Version, like []state.VersionNumber, instances int) []wire.WarmNode {
	view := n.cluster.View()
	var mu sync.Mutex
	has := map[state.NodeID]int{}
	n.ask(ctx, func(ctx context.Context, m *state.Member, a answerer) error {
		reply, err := a.Status(ctx, &nodepb.StatusRequest{})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, f := range reply.GetFunctions() {
			if f.GetApp() == string(ver.Key.App) && f.GetFunction() == string(ver.Key.Function) && f.GetInstances() > 0 &&
				slices.Contains(like, state.VersionNumber(f.GetVersion())) {
				has[m.ID] += int(f.GetInstances())
			}
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	runners := n.sched.Runners(ver, view.Assignment(ver.Key))
	// Stable, so that the ring's order remains among those that have nothing.
	slices.SortStableFunc(runners, func(a, b state.NodeID) int { return cmp.Compare(has[b], has[a]) })
	var plan []wire.WarmNode
	for _, id := range runners[:min(len(runners), max(len(has), 1))] {
		at := wire.WarmNode{Node: string(id), Wanted: instances}
		if at.Wanted == 0 {
			at.Wanted = max(has[id], 1)
		}
		plan = append(plan, at)
	}
	return plan
}

// warmOn has instances started on one node and tells how far they are.
func (n *Node) warmOn(ctx context.Context, key state.VersionKey, at wire.WarmNode) wire.WarmNode {
	out := wire.WarmNode{Node: at.Node, Wanted: at.Wanted}
	id := state.NodeID(at.Node)
	m := n.cluster.View().Member(id)
	if m == nil {
		out.Problem, out.Failed = "is not a member any more", true
		return out
	}
	out.Name = m.Name
	reply, err := n.askWarm(ctx, id, key, at.Wanted)
	if err != nil {
		n.log.Debug().Str("peer", at.Node).Err(err).Msg("node did not warm up")
		out.Problem = "did not answer"
		return out
	}
	out.Wanted, out.Ready, out.Starting = int(reply.GetWanted()), int(reply.GetReady()), int(reply.GetStarting())
	out.Problem, out.Failed = reply.GetProblem(), reply.GetFailed()
	return out
}

func (n *Node) askWarm(ctx context.Context, id state.NodeID, key state.VersionKey, instances int) (*nodepb.WarmReply, error) {
	if id == n.cluster.ID() {
		return n.warmHere(key, instances), nil
	}
	conn, err := n.cluster.Conn(ctx, id)
	if err != nil {
		return nil, err
	}
	return nodepb.NewInstancesClient(conn).Warm(ctx, &nodepb.WarmRequest{
		App: string(key.App), Function: string(key.Function), Version: uint64(key.Number), Instances: int64(instances),
	})
}
