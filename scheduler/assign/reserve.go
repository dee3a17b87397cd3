package assign

import (
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

const (
	// ReserveLease is how long after it last knew the leader's state a node may begin
	// executions of a function with reserved concurrency. Shorter, an election would
	// stop such functions; longer, the share of a node that died lies idle for longer.
	ReserveLease = 10 * time.Second
	// reserveGrace is added to the time after which a share is free: a call that runs
	// into its timeout is ended by force, which takes a moment.
	reserveGrace = 2 * time.Second
)

// ReservationChange is one step of a plan: shares of a function's reserved
// concurrency that change.
type ReservationChange struct {
	Function state.FunctionKey
	Shares   []state.ShareChange
}

// Settled reports whether what is withheld at a place is certainly in use no more.
type Settled func(fn *state.Reservation, place state.ReservedPlace) bool

// PlanReservations returns what must change in the shares of reserved concurrency, in
// order of functions. Shares are even over the live members that may run a function
// under the view's assignments, as far as what is withheld allows. Without such a
// member they stay where they are.
func PlanReservations(view *state.View, live map[state.NodeID]Liveness, now time.Time, settled Settled) []ReservationChange {
	var members []*state.Member
	var changes []ReservationChange
	for _, f := range view.Functions("") {
		if f.Reserved() == 0 {
			continue
		}
		if members == nil {
			members = liveMembers(view, live, now)
		}
		r := view.Reservation(f.Key())
		shares := state.CutReserved(f, r, view.Runners(f, members),
			func(p state.ReservedPlace) bool { return settled(r, p) })
		if len(shares) > 0 {
			changes = append(changes, ReservationChange{f.Key(), shares})
		}
	}
	return changes
}

// liveMembers are those that do not drain and were heard from; never nil.
func liveMembers(view *state.View, live map[state.NodeID]Liveness, now time.Time) []*state.Member {
	members := make([]*state.Member, 0, view.MemberCount())
	for _, m := range view.Members() {
		if l, known := live[m.ID]; known && !m.Draining && now.Sub(l.LastContact) < SilentAfter {
			members = append(members, m)
		}
	}
	return members
}

// ReservationCommands packs changes into as few commands as their bounds allow.
func ReservationCommands(changes []ReservationChange) []*clusterpb.Command {
	var cmds []*clusterpb.Command
	var op *clusterpb.PutReservations
	places := 0
	for _, c := range changes {
		if op == nil || len(op.Changes) == batchChanges || places+len(c.Shares) > batchPlaces {
			op, places = new(clusterpb.PutReservations), 0
			cmds = append(cmds, &clusterpb.Command{Op: &clusterpb.Command_PutReservations{PutReservations: op}})
		}
		p := &clusterpb.ReservationChange{App: string(c.Function.App), Function: string(c.Function.Name)}
		for _, s := range c.Shares {
			p.Shares = append(p.Shares, &clusterpb.ShareChange{Node: string(s.Node), Share: uint32(s.Share), Settled: uint64(s.Settled)})
		}
		op.Changes = append(op.Changes, p)
		places += len(c.Shares)
	}
	return cmds
}

// wait is a share that is withheld since an index, as this run of the loop knows it.
type wait struct {
	function state.FunctionKey
	node     state.NodeID
	since    state.Index
}

// waits holds when this run saw each withheld share at first. The clock is this
// process's and begins anew with each leader, so that no other machine's clock and no
// change of leaders can make a wait shorter.
type waits struct {
	first map[wait]time.Time
	// said reports that the node itself gave the share up.
	said func(fn state.FunctionKey, node state.NodeID, since state.Index) bool
}

// observe notes what is withheld in a view, forgets what is no longer, and reports
// whether any of it is settled.
func (w *waits) observe(view *state.View, now time.Time) (due bool) {
	seen := make(map[wait]time.Time)
	for _, r := range view.Reservations() {
		for _, p := range r.Places {
			if p.Withheld == 0 {
				continue
			}
			key := wait{r.Function, p.Node, p.Since}
			first, known := w.first[key]
			if !known {
				first = now
			}
			seen[key] = first
		}
	}
	w.first = seen
	for _, r := range view.Reservations() {
		for _, p := range r.Places {
			due = due || (p.Withheld > 0 && w.settled(r, p, now))
		}
	}
	return due
}

// settled is the rule of when a share may be granted anew: the node says that it uses
// no more than it has now, or it may not have begun anything for so long that whatever
// it began is over.
func (w *waits) settled(r *state.Reservation, p state.ReservedPlace, now time.Time) bool {
	first, known := w.first[wait{r.Function, p.Node, p.Since}]
	return known && (now.Sub(first) >= ReserveLease+r.Longest+reserveGrace || w.said(r.Function, p.Node, p.Since))
}
