package state

import (
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Member is one node of the cluster as the state knows it; whether it is
// reachable right now is not part of it. Shared: do not change it.
type Member struct {
	ID NodeID
	// Name is for people. Two nodes may have the same one: a machine whose disk
	// was wiped joins with a new id and its old host name.
	Name string
	// Addresses are host:port, as others reach the node. They change when it
	// moves.
	APIAddress    string
	PeerAddress   string
	GossipAddress string
	// OS and Arch are Go's names of them.
	OS, Arch    string
	CPUs        int
	MemoryBytes uint64
	// Runtimes are those that the node can host.
	Runtimes []string
	// SandboxLevel is what the node detected about itself at its last start.
	SandboxLevel int
	// Labels are what its operator says of it. Read-only.
	Labels map[string]string
	// Role is what the node does in the control group; kept by SetRole.
	Role clusterpb.Role
	// Draining members get no share of anything.
	Draining bool
	// FeatureLevel is the highest that the node's release understands.
	FeatureLevel uint32
	// Joined is the state time of the first PutMember.
	Joined time.Time
}

// Tombstone remembers a removed node: its id stays burned.
type Tombstone struct {
	ID      NodeID
	Name    string
	Removed time.Time
}

// Eligible reports whether the node is able to run a version with that
// configuration: runtime, sandbox level, labels, and code for its machine. Draining
// and reachability are the caller's business.
func (m *Member) Eligible(cfg *clusterpb.VersionConfig) bool {
	return slices.Contains(m.Runtimes, cfg.GetRuntime()) &&
		m.SandboxLevel >= int(cfg.GetMinSandbox()) &&
		m.Artifact(cfg) != nil && m.placed(cfg)
}

// placed reports whether the node has the labels that a version asks for.
func (m *Member) placed(cfg *clusterpb.VersionConfig) bool {
	for name, value := range cfg.GetPlace() {
		if has, ok := m.Labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// Artifact returns the code that this node would run, or nil. An exact match
// goes before one that fits every machine.
func (m *Member) Artifact(cfg *clusterpb.VersionConfig) *clusterpb.Artifact {
	return SelectArtifact(cfg, m.OS, m.Arch)
}

// SelectArtifact returns the code of a version for a machine, or nil. An exact
// match goes before one that fits every machine.
func SelectArtifact(cfg *clusterpb.VersionConfig, os, arch string) *clusterpb.Artifact {
	var best *clusterpb.Artifact
	score := -1
	for _, a := range cfg.GetArtifacts() {
		if (a.GetOs() != "" && a.GetOs() != os) || (a.GetArch() != "" && a.GetArch() != arch) {
			continue
		}
		s := 0
		if a.GetOs() != "" {
			s++
		}
		if a.GetArch() != "" {
			s++
		}
		if s > score {
			best, score = a, s
		}
	}
	return best
}

// memberFromPB shares runtimes and labels with the message, which nobody changes
// after it was decoded.
func memberFromPB(p *clusterpb.Member) *Member {
	return &Member{
		ID: NodeID(p.GetId()), Name: p.GetName(),
		APIAddress: p.GetApiAddress(), PeerAddress: p.GetPeerAddress(), GossipAddress: p.GetGossipAddress(),
		OS: p.GetOs(), Arch: p.GetArch(), CPUs: int(p.GetCpus()), MemoryBytes: p.GetMemoryBytes(),
		Runtimes: p.GetRuntimes(), SandboxLevel: int(p.GetSandboxLevel()),
		Role: p.GetRole(), Draining: p.GetDraining(), FeatureLevel: p.GetFeatureLevel(),
		Labels: p.GetLabels(), Joined: fromMillis(p.GetJoinedUnixMs()),
	}
}

func (m *Member) toPB() *clusterpb.Member {
	return &clusterpb.Member{
		Id: string(m.ID), Name: m.Name,
		ApiAddress: m.APIAddress, PeerAddress: m.PeerAddress, GossipAddress: m.GossipAddress,
		Os: m.OS, Arch: m.Arch, Cpus: uint32(m.CPUs), MemoryBytes: m.MemoryBytes,
		Runtimes: m.Runtimes, SandboxLevel: uint32(m.SandboxLevel),
		Role: m.Role, Draining: m.Draining, FeatureLevel: m.FeatureLevel, JoinedUnixMs: millis(m.Joined),
		Labels: m.Labels,
	}
}
