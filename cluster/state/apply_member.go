package state

import "github.com/covey-dev/covey/cluster/clusterpb"

// noMember is the refusal for an id that is not, or not yet, a member's.
func noMember(id NodeID) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "node %q is not a member", clip(string(id)))
}

// putMember adds a node or renews what is known about it. A removed id stays
// out whatever it says: a wiped or stolen disk must not vote twice.
func (d draft) putMember(p *clusterpb.Member) *clusterpb.Refusal {
	if err := checkMember(p, d.level); err != nil {
		return invalid("%v", err)
	}
	id := NodeID(p.GetId())
	if d.Removed(id) {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_REMOVED,
			"node id %s was removed from this cluster and is not accepted again: join with an empty data directory", id)
	}
	if p.GetFeatureLevel() < d.level {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LEVEL,
			"the cluster is at feature level %d, the node knows %d: upgrade the node", d.level, p.GetFeatureLevel())
	}
	m := memberFromPB(p)
	m.Role, m.Draining, m.Joined = clusterpb.Role_ROLE_OBSERVER, false, d.Time()
	if old := d.Member(id); old != nil {
		m.Role, m.Draining, m.Joined = old.Role, old.Draining, old.Joined
	} else if d.members.Len() >= maxMembers {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LIMIT, "the cluster has %d members already", maxMembers)
	}
	d.setMember(m)
	return nil
}

// removeMember is an operator's act. Removing twice is one removal, so that an
// unanswered request may be sent again. Places of the node stay in assignments
// until the planner cuts them anew; a place of a node that is gone harms nobody.
func (d draft) removeMember(id NodeID) *clusterpb.Refusal {
	m := d.Member(id)
	if m == nil {
		if d.Removed(id) {
			return nil
		}
		return noMember(id)
	}
	d.members, _, _ = d.members.Delete([]byte(id))
	d.removed, _, _ = d.removed.Insert([]byte(id), &Tombstone{ID: id, Name: m.Name, Removed: d.Time()})
	// Its reports can no longer come: no connection of its is accepted.
	d.marks, _ = d.marks.DeletePrefix([]byte(string(id) + "/"))
	return nil
}

// setRole only writes down what the control group decided; it moves no vote.
// Unknown roles are refused: a later release raises the feature level for one.
func (d draft) setRole(id NodeID, role clusterpb.Role) *clusterpb.Refusal {
	switch role {
	case clusterpb.Role_ROLE_OBSERVER, clusterpb.Role_ROLE_STANDBY, clusterpb.Role_ROLE_VOTER:
	default:
		return invalid("role %d is not a role", role)
	}
	return d.changeMember(id, func(m *Member) { m.Role = role })
}

// setDraining leaves assignments to the planner, which sees the new view.
func (d draft) setDraining(id NodeID, draining bool) *clusterpb.Refusal {
	return d.changeMember(id, func(m *Member) { m.Draining = draining })
}

// changeMember changes a copy: older views share the member that was.
func (d draft) changeMember(id NodeID, change func(*Member)) *clusterpb.Refusal {
	old := d.Member(id)
	if old == nil {
		return noMember(id)
	}
	m := *old
	change(&m)
	d.setMember(&m)
	return nil
}

func (d draft) setMember(m *Member) {
	d.members, _, _ = d.members.Insert([]byte(m.ID), m)
}

// checkMember bounds what a joining node says of itself. Its certificate proves
// the id; the rest is its own claim and must only do no harm here.
func checkMember(m *clusterpb.Member, level uint32) error {
	p := new(problems)
	if err := checkID("id", m.GetId()); err != nil {
		p.found = append(p.found, err)
	}
	p.check(len(m.GetName()) <= 253, "name has %d bytes, at most 253 are allowed", len(m.GetName()))
	p.check(len(m.GetRuntimes()) <= 32, "runtimes: %d, at most 32 are allowed", len(m.GetRuntimes()))
	for _, r := range m.GetRuntimes() {
		p.check(isWord(r, maxName), "runtimes: %q is not a runtime's name", clip(r))
	}
	for _, a := range []string{m.GetApiAddress(), m.GetPeerAddress(), m.GetGossipAddress(), m.GetOs(), m.GetArch()} {
		p.check(len(a) <= 300, "an address or machine has %d bytes, at most 300 are allowed", len(a))
	}
	p.check(m.GetCpus() <= 1<<20, "cpus is %d, at most %d are allowed", m.GetCpus(), 1<<20)
	p.check(len(m.GetLabels()) == 0 || level >= PlacementLevel,
		"labels need feature level %d, the cluster is at %d: upgrade its nodes", PlacementLevel, level)
	p.nodeLabels("labels", m.GetLabels())
	return p.err()
}

// eligible returns the members that may be given a share of a version, by id.
func (d draft) eligible(cfg *clusterpb.VersionConfig) []NodeID {
	var ids []NodeID
	for m := range all(d.members, "") {
		if !m.Draining && m.Eligible(cfg) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
