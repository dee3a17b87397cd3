package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// describe returns what this node says about itself in the state.
func (c *Cluster) describe() *clusterpb.Member {
	return &clusterpb.Member{
		Id: string(c.id.ID), Name: c.cfg.Name,
		ApiAddress: c.cfg.APIAdvertise, PeerAddress: c.peerAddress, GossipAddress: c.gossip.Address(),
		Os: c.cfg.Info.OS, Arch: c.cfg.Info.Arch, Cpus: uint32(c.cfg.Info.CPUs), MemoryBytes: c.cfg.Info.MemoryBytes,
		Runtimes: c.cfg.Info.Runtimes, SandboxLevel: uint32(c.cfg.Info.SandboxLevel),
		Labels: c.labels(), FeatureLevel: state.FeatureLevel,
	}
}

// labels returns the node's labels, or nil while nodes of an older release would stop
// at a command that holds them.
func (c *Cluster) labels() map[string]string {
	if c.View().FeatureLevel() < state.PlacementLevel {
		return nil
	}
	return c.cfg.Info.Labels
}

// gossipMeta returns what this node says about itself in gossip.
func (c *Cluster) gossipMeta() *clusterpb.GossipMeta {
	draining := false
	if m := c.View().Member(c.id.ID); m != nil {
		draining = m.Draining
	}
	return &clusterpb.GossipMeta{
		Name: c.cfg.Name, ApiAddress: c.cfg.APIAdvertise, PeerAddress: c.peerAddress,
		FeatureLevel: state.FeatureLevel, Draining: draining,
		Os: c.cfg.Info.OS, Arch: c.cfg.Info.Arch, Cpus: uint32(c.cfg.Info.CPUs), MemoryBytes: c.cfg.Info.MemoryBytes,
		Runtimes: c.cfg.Info.Runtimes, SandboxLevel: uint32(c.cfg.Info.SandboxLevel),
	}
}

// describes reports whether the state's record of this node is current.
func describes(m *state.Member, d *clusterpb.Member) bool {
	return m.Name == d.GetName() && m.APIAddress == d.GetApiAddress() && m.PeerAddress == d.GetPeerAddress() &&
		m.GossipAddress == d.GetGossipAddress() && m.OS == d.GetOs() && m.Arch == d.GetArch() &&
		m.CPUs == int(d.GetCpus()) && m.MemoryBytes == d.GetMemoryBytes() &&
		slices.Equal(m.Runtimes, d.GetRuntimes()) && m.SandboxLevel == int(d.GetSandboxLevel()) &&
		m.FeatureLevel == d.GetFeatureLevel() && maps.Equal(m.Labels, d.GetLabels())
}

// keepMember keeps this node's record in the state current: a restart may have
// brought another address, another release, more memory. Nodes that are not in
// the state leave that to whoever signed their certificate.
func (c *Cluster) keepMember(ctx context.Context) error {
	pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.RetryMax)
	for {
		_, changed := c.machine.Position()
		m := c.View().Member(c.id.ID)
		if m != nil && !describes(m, c.describe()) {
			if err := c.record(ctx, c.describe()); err != nil {
				c.log.Debug().Err(err).Msg("own record not yet current")
				if !pause.wait(ctx) {
					return nil
				}
				continue
			}
			pause.reset()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Cluster) record(ctx context.Context, member *clusterpb.Member) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timings.Propose)
	defer cancel()
	result, err := c.Propose(ctx, &clusterpb.Command{Op: &clusterpb.Command_PutMember{
		PutMember: &clusterpb.PutMember{Member: member},
	}})
	if err != nil {
		return err
	}
	return state.Refused(result)
}

// watchState reacts to what the state says about members: it marks this node
// ready, cuts connections to removed nodes, and ends the node if it was removed
// itself.
func (c *Cluster) watchState(ctx context.Context) error {
	for {
		_, changed := c.machine.Position()
		view := c.View()
		if view.Removed(c.id.ID) && !c.group.IsLeader() {
			return fmt.Errorf("node %s: %w", c.id.ID, ErrRemoved)
		}
		if view.Member(c.id.ID) != nil {
			c.readyOnce.Do(func() { close(c.ready) })
		}
		c.conns.keep(func(node state.NodeID) bool { return !view.Removed(node) })
		c.gossip.SetMeta(c.gossipMeta())
		c.wakePeers()
		select {
		case <-changed:
		case <-time.After(c.cfg.Timings.Idle):
			// A removed leader may have lost its leadership without a new command.
		case <-ctx.Done():
			return nil
		}
	}
}
