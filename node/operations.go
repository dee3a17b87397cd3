package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/nodepb"
)

// clockWarning is the difference of clocks that people are told about.
const clockWarning = 500 * time.Millisecond

// operations is what the API asks of a node beyond the control state.
type operations struct{ node *Node }

var _ api.Operations = operations{}

// Nodes implements api.Operations.
func (o operations) Nodes(ctx context.Context) []api.NodeStatus {
	n := o.node
	members := n.cluster.View().Members()
	leader, alive := n.cluster.Leader(), n.alive()
	var mu sync.Mutex // guards answers
	answers := map[state.NodeID]*nodepb.StatusReply{}
	n.ask(ctx, func(ctx context.Context, m *state.Member, q answerer) error {
		reply, err := q.Status(ctx, &nodepb.StatusRequest{})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		answers[m.ID] = reply
		return nil
	})
	out := make([]api.NodeStatus, 0, len(members))
	for _, m := range members {
		s := memberStatus(m)
		s.Leader = m.ID == leader
		s.Alive = m.ID == n.cluster.ID() || alive[m.ID]
		if reply := answers[m.ID]; reply != nil {
			addStatus(&s, reply)
		} else {
			s.Error = "did not answer"
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b api.NodeStatus) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return out
}

// memberStatus is what the state knows of a node.
func memberStatus(m *state.Member) api.NodeStatus {
	return api.NodeStatus{
		ID: string(m.ID), Name: m.Name, Role: roleName(m.Role), Draining: m.Draining,
		API: m.APIAddress, Peer: m.PeerAddress, Gossip: m.GossipAddress, OS: m.OS, Arch: m.Arch, CPUs: m.CPUs,
		Runtimes: m.Runtimes, Sandbox: sandbox.Level(m.SandboxLevel).String(), MemoryBytes: int64(m.MemoryBytes), Joined: m.Joined,
		Labels: m.Labels,
	}
}

func roleName(r clusterpb.Role) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
}

// addStatus adds what only the node itself knows.
func addStatus(s *api.NodeStatus, reply *nodepb.StatusReply) {
	s.Instances, s.InFlight, s.Queued = int(reply.GetInstances()), int(reply.GetInFlight()), int(reply.GetQueued())
	s.MemoryUsedBytes, s.MemoryBudgetBytes = reply.GetMemoryUsedBytes(), reply.GetMemoryBudgetBytes()
	s.Index, s.Build, s.Warnings = reply.GetStateIndex(), reply.GetBuildVersion(), reply.GetSandboxWarnings()
	for _, f := range reply.GetFunctions() {
		s.Functions = append(s.Functions, wire.Load{
			App: f.GetApp(), Function: f.GetFunction(), Version: f.GetVersion(), Instances: int(f.GetInstances()),
			Starting: int(f.GetStarting()), InFlight: int(f.GetInFlight()), Queued: int(f.GetQueued()), Problem: f.GetProblem(),
		})
	}
}

// Status implements api.Operations.
func (o operations) Status(ctx context.Context) api.Status {
	n := o.node
	view := n.cluster.View()
	s := api.Status{
		ClusterID: string(n.cluster.ClusterID()), Node: string(n.cluster.ID()), Name: n.cfg.Name,
		Leader: string(n.cluster.Leader()), Index: uint64(view.Index()), FeatureLevel: view.FeatureLevel(),
		Apps: len(view.Apps()), Functions: len(view.Functions("")), Build: n.cfg.Build, Started: n.started,
	}
	alive := n.alive()
	for _, m := range view.Members() {
		switch m.Role {
		case clusterpb.Role_ROLE_VOTER:
			s.Voters++
		case clusterpb.Role_ROLE_STANDBY:
			s.Standbys++
		default:
			s.Observers++
		}
		if m.ID == n.cluster.ID() || alive[m.ID] {
			s.Alive++
		}
		if m.ID == n.cluster.ID() {
			s.Role = roleName(m.Role)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := n.cluster.Consistent(ctx)
	s.Quorum = err == nil
	s.Warnings = n.warnings(&s)
	return s
}

// warnings are for people.
func (n *Node) warnings(s *api.Status) []string {
	var warnings []string
	if off := n.cluster.ClockOffset(); off.Abs() > clockWarning {
		warnings = append(warnings, fmt.Sprintf("this node's clock differs from the others' by %v", off.Round(time.Millisecond)))
	}
	if err := n.cluster.Halted(); err != nil {
		warnings = append(warnings, "this node no longer follows the cluster's state: "+err.Error())
	}
	if !s.Quorum {
		warnings = append(warnings, "no quorum: deploys and other changes are refused, known functions go on")
	}
	if s.Voters == 1 && s.Voters+s.Standbys+s.Observers > 1 {
		warnings = append(warnings, "one copy votes: losing that node's disk loses the cluster's state; a third node makes it three")
	}
	return append(warnings, n.sandboxWarnings()...)
}

func (n *Node) sandboxWarnings() []string { return n.sandbox.Describe().Warnings }

// Drain implements api.Operations.
func (o operations) Drain(ctx context.Context, node state.NodeID, on bool) error {
	return controlError(o.node.cluster.SetDraining(ctx, node, on))
}

// Remove implements api.Operations.
func (o operations) Remove(ctx context.Context, node state.NodeID) error {
	return controlError(o.node.cluster.RemoveMember(ctx, node))
}

// Explain implements api.Operations.
func (o operations) Explain(ctx context.Context, requestID string) (*invoke.Record, error) {
	var mu sync.Mutex // guards found
	var found *invoke.Record
	o.node.ask(ctx, func(ctx context.Context, _ *state.Member, q answerer) error {
		reply, err := q.Explain(ctx, &nodepb.ExplainRequest{RequestId: requestID})
		if err != nil || !reply.GetFound() {
			return err
		}
		var r invoke.Record
		if err := json.Unmarshal(reply.GetRecord(), &r); err != nil {
			return fmt.Errorf("decode record: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		// A client that asked two nodes left two records; the later one tells more.
		if found == nil || r.Start.After(found.Start) {
			found = &r
		}
		return nil
	})
	if found == nil {
		return nil, fmt.Errorf("%w: no node remembers request %s; nodes keep the last %d", invoke.ErrNotFound, requestID, recordsKept)
	}
	return found, nil
}

// JoinToken implements api.Operations.
func (o operations) JoinToken(ctx context.Context, ttl time.Duration, uses int) (string, error) {
	token, err := o.node.cluster.CreateJoinToken(ctx, ttl, uses)
	return token, controlError(err)
}

// Ready implements api.Operations.
func (o operations) Ready(context.Context) []api.Check {
	n := o.node
	checks := []api.Check{{Name: "draining", OK: !n.draining.Load(), Detail: "this node takes new work"}}
	if n.draining.Load() {
		checks[0].Detail = "this node is stopping"
	}
	member := n.cluster.View().Member(n.cluster.ID())
	checks = append(checks, api.Check{Name: "member", OK: member != nil, Detail: "this node is in the cluster's state"})
	if member != nil && member.Draining {
		checks[0] = api.Check{Name: "draining", OK: false, Detail: "an operator drains this node"}
	}
	halted := api.Check{Name: "state", OK: n.cluster.Halted() == nil, Detail: "this node follows the cluster's state"}
	if err := n.cluster.Halted(); err != nil {
		halted.Detail = err.Error()
	}
	// Not a reason to turn work away: known functions answer without a quorum.
	leader := api.Check{Name: "leader", OK: true, Detail: "control writes are possible"}
	if n.cluster.Leader() == "" {
		leader.Detail = "no leader is known: changes are refused, known functions go on"
	}
	return append(checks, halted, leader)
}

// Backup implements api.Operations.
func (o operations) Backup(ctx context.Context, w io.Writer) error { return o.node.backup(ctx, w) }
