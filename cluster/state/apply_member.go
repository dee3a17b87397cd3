package state

import (
	"cmp"
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

func noMember(id NodeID) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "node %q is not a member", clip(string(id)))
}

// putMember adds a node or renews what is known about it. A removed id stays
// out whatever it says: a wiped or stolen disk must not vote twice.
func (d draft) putMember(p *clusterpb.Member) *clusterpb.Refusal {
	if err := checkMember(p); err != nil {
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

func (d draft) setRole(id NodeID, role clusterpb.Role) *clusterpb.Refusal {
	switch role {
	case clusterpb.Role_ROLE_OBSERVER, clusterpb.Role_ROLE_STANDBY, clusterpb.Role_ROLE_VOTER:
	default:
		return invalid("role %d is not a role", role)
	}
	return d.changeMember(id, func(m *Member) { m.Role = role })
}

func (d draft) setDraining(id NodeID, draining bool) *clusterpb.Refusal {
	return d.changeMember(id, func(m *Member) { m.Draining = draining })
}

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

func checkMember(m *clusterpb.Member) error {
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

// putAssignments checks each assignment against the state as it is now, which
// may have moved since the plan was made, and skips those that do not hold.
func (d draft) putAssignments(op *clusterpb.PutAssignments, res *clusterpb.Result) *clusterpb.Refusal {
	for _, p := range op.GetPut() {
		a := assignmentFromPB(p)
		slices.SortFunc(a.Places, func(x, y Place) int { return cmp.Compare(x.Node, y.Node) })
		if why := d.checkAssignment(a); why != "" {
			res.Skipped = append(res.Skipped, clip(a.Version.String())+": "+why)
			continue
		}
		d.setAssignment(a)
	}
	for _, ref := range op.GetDrop() {
		d.dropAssignment(KeyOf(ref))
	}
	return nil
}

func (d draft) setAssignment(a *Assignment) {
	d.assignments, _, _ = d.assignments.Insert(appendVersionKey(nil, a.Version), a)
}

func (d draft) dropAssignment(key VersionKey) {
	d.assignments, _, _ = d.assignments.Delete(appendVersionKey(nil, key))
}

// checkAssignment returns why an assignment does not hold, or "".
func (d draft) checkAssignment(a *Assignment) string {
	v := d.Version(a.Version)
	if v == nil {
		return "no such version"
	}
	limited := v.Config.GetMax() > 0
	if limited && a.Everywhere {
		return "a version with a max cannot run everywhere"
	}
	var instances, queue, provisioned uint64
	for i, p := range a.Places {
		if i > 0 && a.Places[i-1].Node == p.Node {
			return "two places on node " + string(p.Node)
		}
		if why := d.checkPlace(p, v.Config); why != "" {
			return why
		}
		instances, queue, provisioned = instances+uint64(p.Max), queue+uint64(p.Queue), provisioned+uint64(p.Provisioned)
	}
	switch {
	case instances > uint64(v.Config.GetMax()):
		return "more instances than max"
	case limited && queue > uint64(v.Config.GetQueue()):
		return "more waiting than queue"
	case provisioned > uint64(v.Config.GetMin()):
		return "more provisioned than min"
	}
	return ""
}

func (d draft) checkPlace(p Place, cfg *clusterpb.VersionConfig) string {
	m := d.Member(p.Node)
	switch {
	case m == nil:
		return "node " + clip(string(p.Node)) + " is not a member"
	case m.Draining:
		return "node " + string(p.Node) + " is draining"
	case !m.Eligible(cfg):
		return "node " + string(p.Node) + " cannot run it"
	case (p.Max == 0) != (cfg.GetMax() == 0):
		return "node " + string(p.Node) + " has a share that does not fit max"
	case cfg.GetMax() > 0 && p.Provisioned > p.Max:
		return "node " + string(p.Node) + " has more provisioned than its share"
	case p.Queue > int(cfg.GetQueue()):
		return "node " + string(p.Node) + " has more waiting than queue"
	}
	return ""
}
