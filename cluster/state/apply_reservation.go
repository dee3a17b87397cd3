package state

import (
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// putReservations checks each change against the state as it is now, which may have
// moved since the plan was made, and skips those that do not hold.
func (d draft) putReservations(op *clusterpb.PutReservations, res *clusterpb.Result) *clusterpb.Refusal {
	for _, c := range op.GetChanges() {
		key := FunctionKey{App: AppName(c.GetApp()), Name: FunctionName(c.GetFunction())}
		shares := make([]ShareChange, 0, len(c.GetShares()))
		for _, s := range c.GetShares() {
			shares = append(shares, ShareChange{NodeID(s.GetNode()), int(s.GetShare()), Index(s.GetSettled())})
		}
		if why := d.changeReservation(key, shares); why != "" {
			res.Skipped = append(res.Skipped, clip(key.String())+": "+why)
		}
	}
	return nil
}

// changeReservation returns why a change does not hold, or "".
func (d draft) changeReservation(key FunctionKey, shares []ShareChange) string {
	f := d.Function(key.App, key.Name)
	if f == nil || f.Reserved() == 0 {
		return "nothing is reserved"
	}
	r := d.reservationOf(f)
	seen := make(map[NodeID]bool, len(shares))
	for _, c := range shares {
		m := d.Member(c.Node)
		switch {
		case seen[c.Node]:
			return "two changes for node " + clip(string(c.Node))
		case c.Share > r.Place(c.Node).Share && (m == nil || m.Draining):
			return "node " + clip(string(c.Node)) + " is no member, or is draining"
		}
		seen[c.Node] = true
	}
	next, why := r.with(shares, f.Reserved(), d.index)
	if why == "" {
		d.setReservation(next)
	}
	return why
}

// fitReservation brings a function's reservation in line with what its live version
// says now, where that cannot wait for the planner: a function must be able to run
// from its first moment on, and a number that was lowered holds at once. All else is
// for the planner, which knows who is alive. A function that reserves nothing any more
// has no reservation.
func (d draft) fitReservation(f *Function) {
	key := f.Key()
	if f.Reserved() == 0 {
		d.dropReservation(key)
		return
	}
	r := d.reservationOf(f)
	var holders []NodeID
	shares := 0
	for _, p := range r.Places {
		if p.Share > 0 {
			holders, shares = append(holders, p.Node), shares+p.Share
		}
	}
	if shares == 0 {
		holders = d.Runners(f, slices.Collect(d.staying))
	}
	if shares == 0 || shares > f.Reserved() {
		changes := CutReserved(f, r, holders, func(ReservedPlace) bool { return false })
		// It keeps the same rules as the cutter, so that it never refuses.
		if next, why := r.with(changes, f.Reserved(), d.index); why == "" {
			r = next
		}
	}
	d.setReservation(r)
}

// staying yields the members that do not drain.
func (d draft) staying(yield func(*Member) bool) {
	for m := range all(d.members, "") {
		if !m.Draining && !yield(m) {
			return
		}
	}
}

// reservationOf returns a copy of the function's reservation that may be changed,
// with the timeouts of today's versions. A version may go while its calls run, so
// that the longest timeout never falls.
func (d draft) reservationOf(f *Function) *Reservation {
	r := Reservation{Function: f.Key()}
	if old := d.Reservation(f.Key()); old != nil {
		r = *old
	}
	for _, v := range f.Versions {
		r.Longest = max(r.Longest, v.Timeout())
	}
	return &r
}

func (d draft) setReservation(r *Reservation) {
	d.reservations, _, _ = d.reservations.Insert(functionKey(r.Function), r)
}

func (d draft) dropReservation(key FunctionKey) {
	d.reservations, _, _ = d.reservations.Delete(functionKey(key))
}
