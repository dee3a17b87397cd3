package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/gossip"
	"github.com/covey-dev/covey/cluster/state"
)

// peersPause is the least time between two looks at the peers: a burst of
// commands or gossip is one change.
const peersPause = 20 * time.Millisecond

// Peer is a member of the cluster as this node sees it.
type Peer struct {
	ID   state.NodeID
	Name string
	// APIAddress and PeerAddress are where it is most likely reached now.
	APIAddress, PeerAddress string
	Role                    clusterpb.Role
	Draining                bool
	FeatureLevel            uint32
	// Self marks this node.
	Self bool
	// Alive is gossip's opinion, a hint, and Since when this node first heard it. A
	// member that gossip has not heard of is not alive, since the zero time.
	Alive bool
	Since time.Time
	// Boot is the number of the node's present start, 0 if it was not heard of.
	Boot uint64
}

// Peers returns every member by id, this node included. Who is a member comes
// from the state; gossip adds who answers, and where.
func (c *Cluster) Peers() []Peer {
	heard := c.gossip.Peers()
	members := c.View().Members()
	peers := make([]Peer, 0, len(members))
	for _, m := range members {
		p := Peer{
			ID: m.ID, Name: m.Name, APIAddress: m.APIAddress, PeerAddress: m.PeerAddress,
			Role: m.Role, Draining: m.Draining, FeatureLevel: m.FeatureLevel,
		}
		if m.ID == c.id.ID {
			p.Self, p.Alive, p.Boot = true, true, c.boot
		} else if h, ok := heard[m.ID]; ok {
			p.hear(h)
		}
		peers = append(peers, p)
	}
	return peers
}

// hear adds what gossip says.
func (p *Peer) hear(h gossip.Peer) {
	p.Alive, p.Since, p.Boot = h.Alive, h.Since, h.Boot
	if a := h.Meta.GetPeerAddress(); a != "" {
		p.PeerAddress = a
	}
	if a := h.Meta.GetApiAddress(); a != "" {
		p.APIAddress = a
	}
}

func (c *Cluster) wakePeers() { wake(c.peersChanged) }

// watchPeers tells the node about changes of peers, and writes down where they
// are, for the next start.
func (c *Cluster) watchPeers(ctx context.Context) error {
	var told []Peer
	var written []knownPeer
	for {
		select {
		case <-c.peersChanged:
		case <-ctx.Done():
			return nil
		}
		if peers := c.Peers(); !slices.Equal(peers, told) {
			told = peers
			if c.cfg.OnPeers != nil {
				c.cfg.OnPeers(slices.Clone(peers))
			}
		}
		if known := c.known(told); len(known) > 0 && !slices.Equal(known, written) {
			if err := c.dir.setPeers(known); err != nil {
				c.log.Warn().Err(err).Msg("peers not written down")
			} else {
				written = known
			}
		}
		if !sleep(ctx, peersPause) {
			return nil
		}
	}
}

// known returns where the others are, for peers.json. Of a member that gossip has not
// heard of since this start, the state may know an older address than the file.
func (c *Cluster) known(peers []Peer) []knownPeer {
	heard, view := c.gossip.Peers(), c.View()
	written := c.dir.peers()
	var known []knownPeer
	for _, p := range peers {
		if p.Self {
			continue
		}
		k := knownPeer{ID: p.ID, Peer: p.PeerAddress}
		if m := view.Member(p.ID); m != nil {
			k.Gossip = m.GossipAddress
		}
		if h, ok := heard[p.ID]; ok {
			k.Gossip = h.Address
		} else if i := slices.IndexFunc(written, func(w knownPeer) bool { return w.ID == p.ID }); i >= 0 {
			k = written[i]
		}
		known = append(known, k)
	}
	return known
}
