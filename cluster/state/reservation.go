package state

import (
	"cmp"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Reservation is how a function's reserved concurrency is cut into shares, and what
// of it cannot be used for a while. A node starts no execution beyond its share, and
// none after it lost the leader for a while, so that the sum of all bounds is what
// can run at once. Shared: do not change it.
type Reservation struct {
	Function FunctionKey
	// Places is ascending by node.
	Places []ReservedPlace
	// Longest is the longest timeout of any version while the reservation existed.
	Longest time.Duration
}

// ReservedPlace is one node's part of a reservation.
type ReservedPlace struct {
	Node NodeID
	// Share is how many executions may run there at once.
	Share int
	// Withheld is what the node had beyond its share and may not know to be gone.
	// Nobody else gets it until that is settled.
	Withheld int
	// Since is the index at which Withheld last grew, 0 while nothing is withheld.
	Since Index
}

// bound is what may run there at most, whatever the node knows.
func (p ReservedPlace) bound() int { return p.Share + p.Withheld }

// ShareChange sets one node's share. Settled, if it is the place's Since, says that
// the node certainly uses no more than the share it has had since then.
type ShareChange struct {
	Node    NodeID
	Share   int
	Settled Index
}

// Place returns the node's place, a zero one if it has none.
func (r *Reservation) Place(node NodeID) ReservedPlace {
	if r == nil {
		return ReservedPlace{Node: node}
	}
	i, ok := slices.BinarySearchFunc(r.Places, node, func(p ReservedPlace, n NodeID) int { return cmp.Compare(p.Node, n) })
	if !ok {
		return ReservedPlace{Node: node}
	}
	return r.Places[i]
}

// Reserved is how many executions of the function may run at once in the cluster, or
// 0 for any number. The version that Live names decides for all: an old one that is
// still called must not bring its own number along.
func (f *Function) Reserved() int { return int(f.live().Config.GetReserved()) }

// Rate bounds the calls that enter at one node, or is nil.
func (f *Function) Rate() *clusterpb.Rate { return f.live().Config.GetRate() }

// live is the version that Live names; of a pair, the first.
func (f *Function) live() *Version { return f.Version(f.Alias(Live).Version) }

// Runners returns those of the members that may run a version of the function that
// an alias names: each is able to, and has a share where the version has a max.
func (v *View) Runners(f *Function, members []*Member) []NodeID {
	var ids []NodeID
	for _, m := range members {
		if slices.ContainsFunc(f.Versions, func(ver *Version) bool {
			_, assigned := v.Share(ver.Key, m.ID)
			return assigned && f.Named(ver.Key.Number) && m.Eligible(ver.Config)
		}) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// CutReserved returns the changes that bring a reservation as near to even shares on
// the nodes as what is withheld allows; none means that it is there. r may be nil.
// settled reports what is no longer in use anywhere, see ShareChange.
//
// Shares on the nodes differ by at most one in the end, and nodes with the greater
// ones keep them. A share is lowered at once and its difference withheld; it is
// raised within the node's own bound at once, and beyond it only as far as all bounds
// together stay within the total.
func CutReserved(f *Function, r *Reservation, nodes []NodeID, settled func(ReservedPlace) bool) []ShareChange {
	total := f.Reserved()
	want := evenShares(f, r, nodes, total)
	var changes []ShareChange
	free := total
	consider := func(node NodeID) {
		p := r.Place(node)
		c := ShareChange{Node: node}
		bound := p.bound()
		if p.Withheld > 0 && settled(p) {
			c.Settled, bound = p.Since, p.Share
		}
		c.Share = min(want[node], bound)
		free -= bound
		changes = append(changes, c)
	}
	if r != nil {
		for _, p := range r.Places {
			consider(p.Node)
		}
	}
	for _, node := range nodes {
		if r.Place(node).bound() == 0 {
			consider(node)
		}
	}
	slices.SortFunc(changes, func(a, b ShareChange) int { return cmp.Compare(a.Node, b.Node) })
	for i := range changes {
		c := &changes[i]
		p := r.Place(c.Node)
		bound := p.bound()
		if c.Settled != 0 {
			bound = p.Share
		}
		if more := min(want[c.Node]-bound, free); more > 0 {
			c.Share += more
			free -= more
		}
	}
	return slices.DeleteFunc(changes, func(c ShareChange) bool {
		return c.Settled == 0 && c.Share == r.Place(c.Node).Share
	})
}

// evenShares divides the total over the nodes; without nodes all stays where it is.
func evenShares(f *Function, r *Reservation, nodes []NodeID, total int) map[NodeID]int {
	if len(nodes) == 0 {
		return r.shares()
	}
	places := make([]Place, len(nodes))
	for i, n := range preference(VersionKey{App: f.App, Function: f.Name}.Hash(), nodes) {
		places[i].Node = n
	}
	spread(places, total, func(p *Place) *int { return &p.Max },
		func(p Place) (int, int) { return 1, r.Place(p.Node).bound() })
	want := make(map[NodeID]int, len(places))
	for _, p := range places {
		want[p.Node] = p.Max
	}
	return want
}

// shares are the nodes' shares as they are.
func (r *Reservation) shares() map[NodeID]int {
	shares := make(map[NodeID]int)
	if r != nil {
		for _, p := range r.Places {
			shares[p.Node] = p.Share
		}
	}
	return shares
}

// with returns the reservation after changes of shares, or why they do not hold.
// This is where a reservation is kept: no bound rises unless all of them together
// stay within the total, whatever the proposer planned.
func (r *Reservation) with(changes []ShareChange, total int, index Index) (*Reservation, string) {
	next := *r
	next.Places = slices.Clone(r.Places)
	raised, risen := false, false
	for _, c := range changes {
		p := r.Place(c.Node)
		bound := p.bound()
		if c.Settled != 0 {
			if c.Settled != p.Since {
				return nil, "what is withheld on node " + clip(string(c.Node)) + " has changed"
			}
			bound = p.Share
		}
		n := ReservedPlace{Node: c.Node, Share: c.Share, Withheld: max(bound, c.Share) - c.Share}
		switch {
		case n.Withheld == 0:
		case c.Share < p.Share:
			n.Since = index
		default:
			n.Since = p.Since
		}
		raised, risen = raised || n.Share > p.Share, risen || n.bound() > bound
		next.set(n)
	}
	shares, bounds := 0, 0
	for _, p := range next.Places {
		shares, bounds = shares+p.Share, bounds+p.bound()
	}
	switch {
	case raised && shares > total:
		return nil, "more shares than reserved"
	case risen && bounds > total:
		return nil, "what is reserved may still be in use elsewhere"
	}
	return &next, ""
}

// set replaces a place of a reservation that no view has seen yet. An empty place
// says nothing and is left out.
func (r *Reservation) set(p ReservedPlace) {
	i, ok := slices.BinarySearchFunc(r.Places, p.Node, func(q ReservedPlace, n NodeID) int { return cmp.Compare(q.Node, n) })
	switch {
	case p.bound() == 0 && ok:
		r.Places = slices.Delete(r.Places, i, i+1)
	case p.bound() == 0:
	case ok:
		r.Places[i] = p
	default:
		r.Places = slices.Insert(r.Places, i, p)
	}
}

func (r *Reservation) toPB() *clusterpb.Reservation {
	p := &clusterpb.Reservation{
		App: string(r.Function.App), Function: string(r.Function.Name), LongestMs: uint64(r.Longest.Milliseconds()),
	}
	for _, pl := range r.Places {
		p.Places = append(p.Places, &clusterpb.ReservedPlace{
			Node: string(pl.Node), Share: uint32(pl.Share), Withheld: uint32(pl.Withheld), Since: uint64(pl.Since),
		})
	}
	return p
}

func reservationFromPB(p *clusterpb.Reservation) *Reservation {
	r := &Reservation{
		Function: FunctionKey{App: AppName(p.GetApp()), Name: FunctionName(p.GetFunction())},
		Longest:  time.Duration(min(p.GetLongestMs(), uint64(maxTimeout.Milliseconds()))) * time.Millisecond,
	}
	for _, pl := range p.GetPlaces() {
		r.set(ReservedPlace{
			Node: NodeID(pl.GetNode()), Share: int(pl.GetShare()), Withheld: int(pl.GetWithheld()), Since: Index(pl.GetSince()),
		})
	}
	return r
}
