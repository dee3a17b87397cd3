package node

import (
	"context"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/usage"
	"github.com/covey-dev/covey/scheduler"
)

// keepFleet keeps scheduler, executor and blob store in step with the cluster:
// after each change of the state or of the peers it tells them who is there and
// which versions this node has a share of.
func (n *Node) keepFleet(ctx context.Context) error {
	late := time.NewTicker(lateEvery)
	defer late.Stop()
	for {
		changed := n.cluster.Changed() // before View, so that no change is missed
		view := n.cluster.View()
		n.applyFleet(view)
		var again <-chan time.Time
		if self := view.Member(n.cluster.ID()); self != nil && self.Draining {
			again = late.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-n.changed:
		case <-again:
		}
	}
}

// lateEvery is how often a draining node ends the instances of calls that came
// late, from here or from nodes that had not heard of the drain.
const lateEvery = time.Second

func (n *Node) applyFleet(view *state.View) {
	alive := n.alive()
	members := view.Members()
	nodes := make([]scheduler.Node, 0, len(members))
	for _, m := range members {
		nodes = append(nodes, scheduler.Node{Member: m, Usable: m.ID == n.cluster.ID() || alive[m.ID]})
	}
	n.sched.SetNodes(nodes)
	for _, gone := range view.Tombstones() {
		n.link.Forget(gone.ID)
	}
	n.exec.Reconcile(n.specs(view))
	n.blobs.Kick()
}

// specs are the versions that may run here. A draining node wants none, so that
// its instances end after their last call.
func (n *Node) specs(view *state.View) []executor.Spec {
	var specs []executor.Spec
	if self := view.Member(n.cluster.ID()); self == nil || self.Draining {
		return nil
	}
	for _, f := range view.Functions("") {
		for _, ver := range f.Versions {
			if spec, ok := invoke.SpecOn(view, n.cluster.ID(), ver); ok {
				specs = append(specs, spec)
			}
		}
	}
	return specs
}

// alive is gossip's opinion: good for choosing whom to try, nothing more.
func (n *Node) alive() map[state.NodeID]bool {
	alive := map[state.NodeID]bool{}
	for _, p := range *n.peers.Load() {
		alive[p.ID] = p.Alive && !p.Draining
	}
	return alive
}

// onPeers is called by the cluster after any peer changed.
func (n *Node) onPeers(peers []cluster.Peer) {
	n.peers.Store(&peers)
	select {
	case n.changed <- struct{}{}:
	default: // a wake-up is under way already
	}
}

// onWarm is called by the cluster for every change of another node's warm set,
// from Run on.
func (n *Node) onWarm(node state.NodeID, version uint64, warm bool) {
	n.sched.SetWarm(node, version, warm)
}

// announceWarm is called by the executor when a version becomes warm or cold.
func (n *Node) announceWarm(key executor.Key, warm bool) {
	n.cluster.AnnounceWarm(versionKey(key).Hash(), warm)
}

func versionKey(key executor.Key) state.VersionKey {
	return state.VersionKey{App: state.AppName(key.App), Function: state.FunctionName(key.Function), Number: state.VersionNumber(key.Version)}
}

// shouldStart is the scheduler's rule, asked by the executor.
func (n *Node) shouldStart(in executor.ScaleInput) bool {
	return scheduler.ShouldStart(scheduler.ScaleInput{
		Queued: in.Queued, InFlight: in.InFlight, Instances: in.Instances, Starting: in.Starting,
		Concurrency: in.Concurrency, Max: in.Max, Service: in.Run, Cold: in.Cold,
	})
}

// metered adds a finished call to this node's usage.
func (n *Node) metered(u executor.Usage) {
	n.meter.Add(usage.Sample{
		App: u.Key.App, Function: u.Key.Function, Failed: u.Failed, Cold: u.Cold, Init: u.Init,
		Billed: u.Billed, CPU: u.CPU, Memory: u.MemoryLimit, BytesIn: u.BytesIn, BytesOut: u.BytesOut,
	}, time.Now())
}
