package state

import (
	"iter"
	"slices"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// View is the state after one command. It never changes and is safe for
// concurrent use; so is everything that its methods return, as long as nobody
// writes to it. The methods never block.
type View struct {
	index Index
	// timeMs is kept as it travels: times of later records are compared with it.
	timeMs    int64
	clusterID ClusterID
	level     uint32

	// The tables. Each is a persistent tree: inserting copies one path, and the
	// views before share the rest.
	members   *iradix.Tree[*Member]
	removed   *iradix.Tree[*Tombstone]
	apps      *iradix.Tree[*App]
	functions *iradix.Tree[*Function]
	// retired holds the last number of functions that were deleted.
	retired     *iradix.Tree[*retired]
	assignments *iradix.Tree[*Assignment]
	// reservations holds those of functions whose live version reserves something.
	reservations *iradix.Tree[*Reservation]
	// tokens is keyed by id, tokenHashes holds the same by hash.
	tokens      *iradix.Tree[*Token]
	tokenHashes *iradix.Tree[*Token]
	// usage is keyed by kind, start and function, so old spans come first.
	usage *iradix.Tree[*UsageSpan]
	marks *iradix.Tree[*usageMark]
	// outcomes is keyed by command id, recent holds the same by index.
	outcomes *iradix.Tree[*outcome]
	recent   *iradix.Tree[*outcome]
}

// retired remembers a deleted function.
type retired struct {
	key  FunctionKey
	last VersionNumber
}

// newView is the state before the first command.
func newView() *View {
	return &View{
		members:      iradix.New[*Member](),
		removed:      iradix.New[*Tombstone](),
		apps:         iradix.New[*App](),
		functions:    iradix.New[*Function](),
		retired:      iradix.New[*retired](),
		assignments:  iradix.New[*Assignment](),
		reservations: iradix.New[*Reservation](),
		tokens:       iradix.New[*Token](),
		tokenHashes:  iradix.New[*Token](),
		usage:        iradix.New[*UsageSpan](),
		marks:        iradix.New[*usageMark](),
		outcomes:     iradix.New[*outcome](),
		recent:       iradix.New[*outcome](),
	}
}

// Index is the log index of the last command in this view.
func (v *View) Index() Index { return v.index }

// Time is state time: the greatest time that a command carried.
func (v *View) Time() time.Time { return fromMillis(v.timeMs) }

// ClusterID is empty until the cluster is founded.
func (v *View) ClusterID() ClusterID { return v.clusterID }

// FeatureLevel is the highest level of commands that may be proposed.
func (v *View) FeatureLevel() uint32 { return v.level }

// Function returns a function, or nil. It does not allocate.
func (v *View) Function(app AppName, name FunctionName) *Function {
	if len(app) > maxName || len(name) > maxName {
		return nil
	}
	var buf [keyBuffer]byte
	f, _ := v.functions.Get(appendFunctionKey(buf[:0], app, name))
	return f
}

// Version returns a version, or nil. It does not allocate.
func (v *View) Version(key VersionKey) *Version {
	f := v.Function(key.App, key.Function)
	if f == nil {
		return nil
	}
	return f.Version(key.Number)
}

// Functions returns the functions of an app by name, or of all apps if app is
// empty.
func (v *View) Functions(app AppName) []*Function {
	if app == "" {
		return slices.Collect(all(v.functions, ""))
	}
	return slices.Collect(all(v.functions, string(app)+"/"))
}

// App returns an app with its limits, or nil. It does not allocate.
func (v *View) App(name AppName) *App {
	if len(name) > maxName {
		return nil
	}
	var buf [keyBuffer]byte
	a, _ := v.apps.Get(append(buf[:0], name...))
	return a
}

// Apps returns all apps by name.
func (v *View) Apps() []*App { return slices.Collect(all(v.apps, "")) }

// Assignment returns the assignment of a version, or nil. It does not allocate.
func (v *View) Assignment(key VersionKey) *Assignment {
	if len(key.App) > maxName || len(key.Function) > maxName {
		return nil
	}
	var buf [keyBuffer]byte
	a, _ := v.assignments.Get(appendVersionKey(buf[:0], key))
	return a
}

// Assignments returns all assignments by version.
func (v *View) Assignments() []*Assignment { return slices.Collect(all(v.assignments, "")) }

// Reservation returns how a function's reserved concurrency is cut, or nil. It does
// not allocate.
func (v *View) Reservation(key FunctionKey) *Reservation {
	if len(key.App) > maxName || len(key.Name) > maxName {
		return nil
	}
	var buf [keyBuffer]byte
	r, _ := v.reservations.Get(appendFunctionKey(buf[:0], key.App, key.Name))
	return r
}

// Reservations returns all reservations by function.
func (v *View) Reservations() []*Reservation { return slices.Collect(all(v.reservations, "")) }

// Member returns a member, or nil.
func (v *View) Member(id NodeID) *Member {
	m, _ := v.members.Get([]byte(id))
	return m
}

// Members returns all members by id.
func (v *View) Members() []*Member { return slices.Collect(all(v.members, "")) }

// MemberCount returns the number of members without listing them.
func (v *View) MemberCount() int { return v.members.Len() }

// Removed reports whether the id was removed, and is burned.
func (v *View) Removed(id NodeID) bool {
	_, ok := v.removed.Get([]byte(id))
	return ok
}

// Tombstones returns all removed nodes by id.
func (v *View) Tombstones() []*Tombstone { return slices.Collect(all(v.removed, "")) }

// Token returns a token by its id, or nil.
func (v *View) Token(id TokenID) *Token {
	k, _ := v.tokens.Get([]byte(id))
	return k
}

// TokenByHash returns the token with that SHA-256 of its secret, or nil; also an
// expired one, so that the caller can say so. It does not allocate.
func (v *View) TokenByHash(hash [32]byte) *Token {
	k, _ := v.tokenHashes.Get(hash[:])
	return k
}

// Tokens returns all tokens by id.
func (v *View) Tokens() []*Token { return slices.Collect(all(v.tokens, "")) }

// Digests yields every code digest that a version names, with repetitions.
func (v *View) Digests() iter.Seq[string] {
	return func(yield func(string) bool) {
		for f := range all(v.functions, "") {
			for _, ver := range f.Versions {
				for _, a := range ver.Config.GetArtifacts() {
					if !yield(a.GetDigest()) {
						return
					}
				}
			}
		}
	}
}

// Share returns what a node may do with a version under the current assignment;
// false means that the version may not run there (now). Whether the node is
// able to run it is Member.Eligible's answer, and whether it drains Member's,
// not this one's. It does not allocate.
func (v *View) Share(key VersionKey, node NodeID) (Place, bool) {
	ver := v.Version(key)
	if ver == nil {
		return Place{}, false
	}
	a := v.Assignment(key)
	if a != nil {
		if p, ok := a.Place(node); ok {
			return p, true
		}
	}
	if ver.Config.GetMax() > 0 || (a != nil && !a.Everywhere) {
		return Place{}, false
	}
	return Place{Node: node, Queue: int(ver.Config.GetQueue())}, true
}

// limits returns the limits of an app, of which an unknown one has none.
func (v *View) limits(app AppName) *clusterpb.Limits {
	if a := v.App(app); a != nil && a.Limits != nil {
		return a.Limits
	}
	return &clusterpb.Limits{}
}

// all yields the values under a prefix in key order.
func all[T any](t *iradix.Tree[T], prefix string) iter.Seq[T] {
	return func(yield func(T) bool) {
		it := t.Root().Iterator()
		if prefix != "" {
			it.SeekPrefix([]byte(prefix))
		}
		for _, val, ok := it.Next(); ok; _, val, ok = it.Next() {
			if !yield(val) {
				return
			}
		}
	}
}
