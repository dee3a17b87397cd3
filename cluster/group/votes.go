package group

import (
	"cmp"
	"slices"
	"time"
)

// standbysMax is how many members may wait for a vote. More would cost the leader
// a copy of each entry without making the group safer.
const standbysMax = 2

// candidate is a server as planVotes and planStandbys see it.
type candidate struct {
	Server
	role    Role
	leader  bool
	known   bool          // listed by the owner; if not, it was removed
	healthy bool          // in contact, in the leader's term, caught up; of an observer: reachable
	stable  bool          // healthy for long enough
	silent  time.Duration // since the leader's own last contact
}

// votersWanted says how many of a cluster's nodes should vote. The numbers are
// odd, because an even one survives no more failures than the odd one below it.
func votersWanted(nodes int) int {
	switch {
	case nodes < 3:
		return 1
	case nodes < 7:
		return 3
	default:
		return 5
	}
}

// planVotes decides who gets and who loses a vote, the latter in the order in
// which it must happen. It is a pure function of what the leader sees. A voter
// that is silent, avoided or removed goes when a stable standby can take its place
// and keeps its vote until then: an even number would be no safer, and going down
// to the next odd one could cost the majority. The resulting number is odd.
func planVotes(all []candidate, replace time.Duration) (promote, demote []NodeID) {
	voters, standbys := rankVoters(all, replace)
	wanted := votersWanted(countKnown(all))

	var keep []candidate
	for _, v := range voters {
		if v.worth(replace) && len(keep) < wanted {
			keep = append(keep, v)
		}
	}
	for _, s := range standbys {
		if len(keep) < wanted {
			keep = append(keep, s)
		}
	}
	// Of the others a live one counts most, even if it was removed: it holds the
	// majority until there is a standby to take its place.
	for _, like := range []candidate{{healthy: true, known: true}, {healthy: true}, {known: true}, {}} {
		for _, v := range voters {
			if len(keep) < wanted && v.known == like.known && v.healthy == like.healthy && !v.worth(replace) {
				keep = append(keep, v)
			}
		}
	}
	if len(keep)%2 == 0 && len(keep) > 0 {
		keep = dropOne(keep)
	}
	demote = difference(voters, keep)
	// The least useful first: a live voter that goes before a dead one can take the
	// majority with it.
	slices.Reverse(demote)
	return difference(keep, voters), demote
}

// safe reports whether a set of voters has a majority of live ones.
func safe(voters []NodeID, alive func(NodeID) bool) bool {
	n := 0
	for _, id := range voters {
		if alive(id) {
			n++
		}
	}
	return n > len(voters)/2
}

// worth reports that a voter should keep its vote although others could have it.
func (c candidate) worth(replace time.Duration) bool {
	if c.leader {
		return true // its own contact cannot fail; it hands over before it goes
	}
	return c.known && !c.Avoid && c.silent < replace
}

// rankVoters returns the voters, the most worth keeping first, and the standbys
// that may get a vote.
func rankVoters(all []candidate, replace time.Duration) (voters, standbys []candidate) {
	for _, c := range all {
		switch {
		case c.role == Voter:
			voters = append(voters, c)
		case c.role == Standby && c.known && !c.Avoid && c.stable:
			standbys = append(standbys, c)
		}
	}
	rank := func(c candidate) int {
		switch {
		case c.leader:
			return 0
		case c.worth(replace) && c.healthy:
			return 1
		case c.worth(replace):
			return 2
		case c.healthy: // avoided, but it works
			return 3
		default:
			return 4
		}
	}
	slices.SortFunc(voters, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(standbys, byID)
	return voters, standbys
}

// dropOne makes an even number odd: a standby that would be promoted waits for a
// second one, otherwise the last voter goes.
func dropOne(keep []candidate) []candidate {
	for i := len(keep) - 1; i >= 0; i-- {
		if keep[i].role != Voter {
			return slices.Delete(keep, i, i+1)
		}
	}
	return keep[:len(keep)-1]
}

// planStandbys decides which one member is removed, or else which one node is
// added. Nodes that the owner no longer knows are removed by autopilot.
func planStandbys(all []candidate, replace time.Duration) (remove, add NodeID) {
	var (
		standbys, fresh []candidate
		voters          int
	)
	for _, c := range all {
		switch {
		case c.role == Voter && c.known:
			// One that was removed keeps its vote until a standby takes it, so it must
			// not keep that standby out.
			voters++
		case c.role == Standby && c.known:
			standbys = append(standbys, c)
		case c.role == Observer && !c.Avoid && c.healthy:
			fresh = append(fresh, c)
		}
	}
	slices.SortFunc(fresh, byID)
	wanted := max(0, min(standbysMax, countKnown(all)-voters))
	// The least useful one is last.
	slices.SortFunc(standbys, func(a, b candidate) int {
		return cmp.Or(compareBool(b.stable, a.stable), compareBool(b.healthy, a.healthy),
			compareBool(a.Avoid, b.Avoid), cmp.Compare(a.silent, b.silent), cmp.Compare(a.ID, b.ID))
	})
	switch {
	case len(standbys) > wanted:
		return standbys[len(standbys)-1].ID, ""
	case len(standbys) < wanted && len(fresh) > 0:
		return "", fresh[0].ID
	case len(standbys) > 0 && len(fresh) > 0:
		// A silent one comes back by itself, but not in another's place.
		if last := standbys[len(standbys)-1]; last.silent >= replace || last.Avoid {
			return last.ID, ""
		}
	}
	return "", ""
}

// successor returns a healthy voter that can lead instead of a leader that is to
// be avoided, or nothing.
func successor(all []candidate) NodeID {
	i := slices.IndexFunc(all, func(c candidate) bool { return c.leader })
	if i < 0 || !all[i].Avoid {
		return ""
	}
	for _, c := range all {
		if c.role == Voter && c.known && !c.Avoid && c.stable && !c.leader {
			return c.ID
		}
	}
	return ""
}

// countKnown counts the nodes that decide how many should vote, dead ones included:
// only an operator's act changes the number.
func countKnown(all []candidate) int {
	n := 0
	for _, c := range all {
		if c.known {
			n++
		}
	}
	return n
}

// byID makes plans repeatable.
func byID(a, b candidate) int { return cmp.Compare(a.ID, b.ID) }

// compareBool sorts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// difference returns the ids in a that are not in b, in a's order.
func difference(a, b []candidate) []NodeID {
	var out []NodeID
	for _, c := range a {
		if !slices.ContainsFunc(b, func(o candidate) bool { return o.ID == c.ID }) {
			out = append(out, c.ID)
		}
	}
	return out
}
