package cluster

import (
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// Status describes the cluster as this node sees it.
type Status struct {
	Cluster state.ClusterID
	Node    state.NodeID
	Role    clusterpb.Role
	// Leader is empty while none is known.
	Leader state.NodeID
	// Members counts all, Alive those that gossip sees, Voters and Standbys those
	// of the state, VotersAlive the live ones among the voters.
	Members, Alive, Voters, VotersAlive, Standbys int
	// Index is the position of this node's state; Raft describes its group.
	Index state.Index
	Raft  group.Stats
	// FeatureLevel is the cluster's.
	FeatureLevel uint32
	// ClockOffset is how far this node's clock is behind the others'.
	ClockOffset time.Duration
	// CertificateExpires is when this node's certificate ends if it is not renewed.
	CertificateExpires time.Time
	// Halted says why this node no longer follows the log; nil if it does.
	Halted error
}

// Status returns a description that was true a moment ago. It never waits.
func (c *Cluster) Status() Status {
	position, _ := c.machine.Position()
	s := Status{
		Cluster: c.id.Cluster, Node: c.id.ID, Leader: c.Leader(), Index: position,
		Raft: c.group.Stats(), FeatureLevel: c.View().FeatureLevel(), ClockOffset: c.ClockOffset(),
		CertificateExpires: c.creds.Identity().Expires(), Halted: c.machine.Halted(),
	}
	for _, p := range c.Peers() {
		s.Members++
		if p.Alive {
			s.Alive++
		}
		switch p.Role {
		case clusterpb.Role_ROLE_VOTER:
			s.Voters++
			if p.Alive {
				s.VotersAlive++
			}
		case clusterpb.Role_ROLE_STANDBY:
			s.Standbys++
		}
		if p.Self {
			s.Role = p.Role
		}
	}
	return s
}

// Quorum reports whether a leader is known, without which nothing can be written.
func (s *Status) Quorum() bool { return s.Leader != "" }

// Halted returns why this node no longer follows the log, or nil. A halted node
// serves reads of its last state and should not be sent new work.
func (c *Cluster) Halted() error { return c.machine.Halted() }
