package scheduler

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// Node is a member of the cluster as the caller knows it now.
type Node struct {
	// Member is the node's entry in the view. It is shared and not changed.
	Member *state.Member
	// Usable says that the node is thought to be up. A draining member is not used
	// whatever this says.
	Usable bool
}

// node is what is kept per node id. It is never freed: an id is a node's for
// ever, and a hundred bytes per id ever seen is less than the trouble of
// renumbering.
type node struct {
	id    state.NodeID
	index int32
	// usable is false for a node that is away, draining, or no member.
	usable atomic.Bool
	// cut is set while this node's own link to it is broken.
	cut atomic.Bool
	// busy is the last Load.Busy heard from there, and heard when; zero is never.
	busy  atomic.Int32
	heard atomic.Int64
}

// routable reports whether calls may be sent there now.
func (n *node) routable() bool { return n.usable.Load() && !n.cut.Load() }

// table is the membership. It is immutable but for the nodes' flags and the
// cache of eligible sets.
type table struct {
	nodes   []*node // by index; entries beyond the table's birth are not members
	members []*state.Member
	// cpus holds the members' processors by index, apart because each decision
	// reads several.
	cpus []uint16
	ring ring
	// places translates the points of a shared ring to indexes; nil when they are
	// indexes already.
	places []int32

	mu sync.Mutex
	// classes caches which members are able to run a kind of version.
	classes map[string]bits
}

// registry numbers the nodes.
type registry struct {
	mu    sync.RWMutex
	byID  map[state.NodeID]*node
	nodes []*node
}

// lookup returns the node with that id, or nil.
func (r *registry) lookup(id state.NodeID) *node {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}

// intern returns the node with that id, numbering it when it is new.
func (r *registry) intern(id state.NodeID) *node {
	if n := r.lookup(id); n != nil {
		return n
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.byID[id]; n != nil {
		return n
	}
	n := &node{id: id, index: int32(len(r.nodes))}
	r.byID[id] = n
	r.nodes = append(r.nodes, n)
	return n
}

// snapshot returns the nodes by index. The capacity is cut so that an append by
// intern never shows in it.
func (r *registry) snapshot() []*node {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.nodes[:len(r.nodes):len(r.nodes)]
}

// SetNodes replaces the membership. The ring is built anew only when a member
// came, went or changed; whether one is usable is a flag. Call it from one
// goroutine.
func (s *Scheduler) SetNodes(nodes []Node) {
	old := s.table.Load()
	same := true
	count := 0
	present := map[int32]bool{}
	for _, in := range nodes {
		n := s.registry.intern(in.Member.ID)
		n.usable.Store(in.Usable && !in.Member.Draining)
		present[n.index] = true
		count++
		same = same && int(n.index) < len(old.members) && sameMember(old.members[n.index], in.Member)
	}
	for i, m := range old.members {
		if m != nil && !present[int32(i)] {
			old.nodes[i].usable.Store(false)
			same = false
		}
	}
	if !same {
		s.table.Store(s.newTable(nodes))
	}
}

// sameMember reports whether nothing changed that decides about placement.
func sameMember(a, b *state.Member) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || len(a.Runtimes) != len(b.Runtimes) {
		return false
	}
	for i := range a.Runtimes {
		if a.Runtimes[i] != b.Runtimes[i] {
			return false
		}
	}
	return a.OS == b.OS && a.Arch == b.Arch && a.CPUs == b.CPUs && a.SandboxLevel == b.SandboxLevel &&
		maps.Equal(a.Labels, b.Labels)
}

// newTable builds ring and members for the nodes given. Indexes that exist but are
// not among them stay without a member.
func (s *Scheduler) newTable(nodes []Node) *table {
	all := s.registry.snapshot()
	t := &table{nodes: all, members: make([]*state.Member, len(all)), cpus: make([]uint16, len(all)), classes: map[string]bits{}}
	ringed := make([]*node, 0, len(nodes))
	for _, in := range nodes {
		n := s.registry.intern(in.Member.ID)
		t.members[n.index] = in.Member
		t.cpus[n.index] = uint16(min(max(in.Member.CPUs, 1), math.MaxUint16))
		ringed = append(ringed, n)
	}
	t.ring = s.cfg.Rings.ring(ringed)
	if s.cfg.Rings != nil {
		t.places = make([]int32, len(ringed))
		for i, n := range ringed {
			t.places[i] = n.index
		}
	}
	return t
}

// SetLink tells that this node's link to another broke or came back. A broken
// link means "do not route there" at once. Unknown nodes are remembered.
func (s *Scheduler) SetLink(id state.NodeID, up bool) { s.registry.intern(id).cut.Store(!up) }

// able returns the members that are able to run cfg. Versions of one kind share
// one set; it must not be changed.
func (t *table) able(cfg *clusterpb.VersionConfig) bits {
	var key strings.Builder
	fmt.Fprintf(&key, "%s|%d", cfg.GetRuntime(), cfg.GetMinSandbox())
	for _, a := range cfg.GetArtifacts() {
		fmt.Fprintf(&key, "|%s/%s", a.GetOs(), a.GetArch())
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.GetPlace())) {
		fmt.Fprintf(&key, "|%s=%s", name, cfg.GetPlace()[name])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	set, ok := t.classes[key.String()]
	if !ok {
		set = newBits(len(t.members))
		for i, m := range t.members {
			if m != nil && m.Eligible(cfg) {
				set.set(int32(i))
			}
		}
		t.classes[key.String()] = set
	}
	return set
}

// runners returns the nodes that may run the version, by ability and by
// assignment. A version with a max runs only where it has a share of it.
func (t *table) runners(s *registry, v *state.Version, a *state.Assignment) bits {
	able := t.able(v.Config)
	if v.Config.GetMax() == 0 && (a == nil || a.Everywhere) {
		return able
	}
	if a == nil {
		return nil
	}
	set := newBits(len(t.members))
	for i := range a.Places {
		n := s.lookup(a.Places[i].Node)
		if n == nil || !able.has(n.index) || (v.Config.GetMax() > 0 && a.Places[i].Max == 0) {
			continue
		}
		set.set(n.index)
	}
	return set
}
