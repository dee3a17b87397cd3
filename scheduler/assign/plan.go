package assign

import (
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// SilentAfter is how long the leader waits for a sign of life before it moves a
// node's shares. Shorter, a busy or briefly cut off node would lose them for
// nothing; longer, a dead node's part of max lies idle.
const SilentAfter = 15 * time.Second

// Liveness is what the leader knows about a member.
type Liveness struct {
	// LastContact is when the leader itself last heard from it, not when gossip
	// said so. It carries a monotonic reading of the leader's clock.
	LastContact time.Time
}

// Change is one step of a plan: an assignment to put, or one to drop.
type Change struct {
	Version state.VersionKey
	// Put replaces the version's assignment; nil drops it.
	Put *state.Assignment
}

// Plan returns what must change in the assignments, in order of versions. It is
// deterministic and depends on its arguments alone. A member that live does not
// name counts as silent.
func Plan(view *state.View, live map[state.NodeID]Liveness, now time.Time) []Change {
	p := planner{view: view}
	for _, m := range view.Members() {
		if m.Draining {
			continue
		}
		l, known := live[m.ID]
		p.members = append(p.members, candidate{m, !known || now.Sub(l.LastContact) >= SilentAfter})
	}
	var changes []Change
	z := zones{}
	for _, f := range view.Functions("") {
		for _, v := range f.Versions {
			least := 0
			if f.Named(v.Key.Number) {
				least = provisionedAt(v.Config, now, z)
			}
			if c, ok := p.version(v, least); ok {
				changes = append(changes, c)
			}
		}
	}
	return changes
}

// candidate is a member that does not drain.
type candidate struct {
	*state.Member
	silent bool
}

type planner struct {
	view    *state.View
	members []candidate
}

// version plans one version and reports whether anything must change.
func (p *planner) version(v *state.Version, least int) (Change, bool) {
	old := p.view.Assignment(v.Key)
	limited := v.Config.GetMax() > 0
	if !limited && least == 0 {
		return Change{Version: v.Key}, old != nil
	}
	var prev []state.Place
	if old != nil {
		prev = old.Places
	}
	places := state.Cut(v, p.nodes(v.Config, old), prev, least)
	if len(places) == 0 {
		// No place is what a missing assignment means for a version with a
		// max; for one without it means everywhere, which is right as well.
		return Change{Version: v.Key}, old != nil
	}
	next := &state.Assignment{Version: v.Key, Everywhere: !limited, Places: places}
	return Change{Version: v.Key, Put: next}, old == nil || !old.Equal(next)
}

// nodes returns the members that share a version: the live ones that are able
// to run it, else the silent ones among them that hold a share already.
func (p *planner) nodes(cfg *clusterpb.VersionConfig, old *state.Assignment) []state.NodeID {
	var live, holders []state.NodeID
	for _, m := range p.members {
		if !m.Eligible(cfg) {
			continue
		}
		if !m.silent {
			live = append(live, m.ID)
			continue
		}
		if old != nil {
			if _, holds := old.Place(m.ID); holds {
				holders = append(holders, m.ID)
			}
		}
	}
	if len(live) > 0 {
		return live
	}
	return holders
}
