package state

import (
	"cmp"
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

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

// setAssignment replaces the version's assignment as a whole: places are cut
// together, so they are never changed one by one.
func (d draft) setAssignment(a *Assignment) {
	d.assignments, _, _ = d.assignments.Insert(appendVersionKey(nil, a.Version), a)
}

// dropAssignment does nothing if there is none, so that dropping may be repeated.
func (d draft) dropAssignment(key VersionKey) {
	d.assignments, _, _ = d.assignments.Delete(appendVersionKey(nil, key))
}

// checkAssignment returns why an assignment does not hold, or "". Sums are made
// in 64 bits: a place holds up to 32, and there may be many.
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
	case provisioned > uint64(MostProvisioned(v.Config)):
		return "more provisioned than the version asks for"
	}
	return ""
}

// checkPlace returns why one place does not hold, or "". A node that drains or
// left since the plan was made fails the whole assignment: the planner sees the
// same view soon and cuts again, which is better than a share that nobody has.
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
