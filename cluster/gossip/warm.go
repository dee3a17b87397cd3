package gossip

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"google.golang.org/protobuf/proto"
)

// stateBytesMax bounds what one push/pull carries about warm sets. Our own set
// always fits first; of the others a random part is sent, the rest next time.
const stateBytesMax = 512 << 10

// aheadMax bounds what is remembered about changes after a gap, per node. Beyond
// it they still count, but the gap waits for a full set.
const aheadMax = 4096

// warmSet is what is known about one node's warm functions.
type warmSet struct {
	boot uint64
	// base is the change up to which nothing is missing. Changes after a gap are
	// applied, too; the missing ones, or the next full set, close the gap.
	base uint64
	warm map[uint64]struct{}
	// ahead holds the numbers of the changes after base that came. Packets overtake
	// each other all the time; without it, one that did would leave a gap for good.
	ahead map[uint64]struct{}
	// last holds the changes after base by function, so that an older one that
	// arrives late is dropped.
	last map[uint64]uint64
}

// warmKey names one function on one node.
type warmKey struct {
	node     state.NodeID
	function uint64
}

// warmSets are the warm sets of all nodes, our own included. Changes to others'
// are collected and handed out by drain, newest value only, so a receiver of
// packets never waits for a callback.
type warmSets struct {
	self state.NodeID

	mu      sync.Mutex
	sets    map[state.NodeID]*warmSet
	changed map[warmKey]struct{}
}

func newWarmSets(self state.NodeID, boot uint64) *warmSets {
	return &warmSets{
		self:    self,
		sets:    map[state.NodeID]*warmSet{self: newWarmSet(boot)},
		changed: map[warmKey]struct{}{},
	}
}

func newWarmSet(boot uint64) *warmSet {
	return &warmSet{
		boot: boot, warm: map[uint64]struct{}{}, ahead: map[uint64]struct{}{}, last: map[uint64]uint64{},
	}
}

// advance moves base over the changes that are known and forgets what it passed.
func (s *warmSet) advance() {
	for {
		if _, next := s.ahead[s.base+1]; !next {
			break
		}
		s.base++
		delete(s.ahead, s.base)
	}
	maps.DeleteFunc(s.last, func(_, seq uint64) bool { return seq <= s.base })
}

// whole reports whether the set is exactly the one after change base.
func (s *warmSet) whole() bool { return len(s.last) == 0 }

// announce changes our own set and returns the message to broadcast, or nil if
// nothing changed.
func (w *warmSets) announce(function uint64, warm bool) *clusterpb.GossipWarm {
	w.mu.Lock()
	defer w.mu.Unlock()
	set := w.sets[w.self]
	if _, was := set.warm[function]; was == warm {
		return nil
	}
	set.base++
	if warm {
		set.warm[function] = struct{}{}
	} else {
		delete(set.warm, function)
	}
	return &clusterpb.GossipWarm{
		Node: string(w.self), Boot: set.boot, Seq: set.base, Function: function, Warm: warm,
	}
}

// apply takes a change from another node and reports whether it was news, which
// the caller then passes on. A change that a later one overtook changes nothing,
// but it is news: whoever lacks it has a gap.
func (w *warmSets) apply(m *clusterpb.GossipWarm) bool {
	node := state.NodeID(m.GetNode())
	w.mu.Lock()
	defer w.mu.Unlock()
	if node == w.self {
		return false
	}
	set := w.setLocked(node, m.GetBoot())
	if set == nil || m.GetSeq() <= set.base {
		return false
	}
	_, had := set.ahead[m.GetSeq()]
	newest := m.GetSeq() > set.last[m.GetFunction()]
	full := len(set.ahead) >= aheadMax && m.GetSeq() != set.base+1
	if had || (full && !newest) {
		return false
	}
	if newest {
		w.putLocked(node, set, m.GetFunction(), m.GetWarm())
		set.last[m.GetFunction()] = m.GetSeq()
	}
	if !full {
		set.ahead[m.GetSeq()] = struct{}{}
		set.advance()
	}
	return true
}

// merge takes the whole set of another node as of a change. What we know of
// later changes stays.
func (w *warmSets) merge(m *clusterpb.GossipWarmSet) {
	node := state.NodeID(m.GetNode())
	w.mu.Lock()
	defer w.mu.Unlock()
	if node == w.self {
		return
	}
	set := w.setLocked(node, m.GetBoot())
	if set == nil || m.GetSeq() < set.base {
		return
	}
	in := make(map[uint64]struct{}, len(m.GetFunctions()))
	for _, function := range m.GetFunctions() {
		in[function] = struct{}{}
		if set.last[function] <= m.GetSeq() {
			w.putLocked(node, set, function, true)
		}
	}
	for _, function := range slices.Collect(maps.Keys(set.warm)) {
		if _, still := in[function]; !still && set.last[function] <= m.GetSeq() {
			w.putLocked(node, set, function, false)
		}
	}
	set.base = m.GetSeq()
	maps.DeleteFunc(set.ahead, func(seq uint64, _ struct{}) bool { return seq <= set.base })
	set.advance()
}

// restart forgets the warm set of a node's earlier boots.
func (w *warmSets) restart(node state.NodeID, boot uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if node != w.self {
		w.setLocked(node, boot)
	}
}

// forget drops everything about a node.
func (w *warmSets) forget(node state.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if set := w.sets[node]; set != nil && node != w.self {
		for function := range set.warm {
			w.changed[warmKey{node, function}] = struct{}{}
		}
		delete(w.sets, node)
	}
}

// setLocked returns the set of a node's boot, or nil for an earlier boot than
// the known one. A later boot starts empty.
func (w *warmSets) setLocked(node state.NodeID, boot uint64) *warmSet {
	set := w.sets[node]
	if set != nil && boot < set.boot {
		return nil
	}
	if set == nil || boot > set.boot {
		if set != nil {
			for function := range set.warm {
				w.changed[warmKey{node, function}] = struct{}{}
			}
		}
		set = newWarmSet(boot)
		w.sets[node] = set
	}
	return set
}

// putLocked changes one function of a set and notes the change.
func (w *warmSets) putLocked(node state.NodeID, set *warmSet, function uint64, warm bool) {
	if _, was := set.warm[function]; was == warm {
		return
	}
	if warm {
		set.warm[function] = struct{}{}
	} else {
		delete(set.warm, function)
	}
	w.changed[warmKey{node, function}] = struct{}{}
}

// drain hands every change since the last drain to f, with the newest value.
func (w *warmSets) drain(f func(state.NodeID, uint64, bool)) {
	w.mu.Lock()
	changes := make(map[warmKey]bool, len(w.changed))
	for key := range w.changed {
		if set := w.sets[key.node]; set != nil {
			_, changes[key] = set.warm[key.function]
		} else {
			changes[key] = false
		}
	}
	clear(w.changed)
	w.mu.Unlock()
	for key, warm := range changes {
		f(key.node, key.function, warm)
	}
}

// encode returns all sets, ours first, within stateBytesMax. Sets with a gap are
// for those who just joined and know nothing: they are not what they say, the set
// after change base, and would undo news elsewhere.
func (w *warmSets) encode(join bool) []byte {
	w.mu.Lock()
	message := &clusterpb.GossipState{Sets: []*clusterpb.GossipWarmSet{w.setProtoLocked(w.self)}}
	nodes := slices.Collect(maps.Keys(w.sets))
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	size := 0
	for _, node := range nodes {
		if !join && !w.sets[node].whole() {
			continue
		}
		// 64 bytes cover the id, the numbers and the framing of one set.
		size += 64 + 8*len(w.sets[node].warm)
		if node != w.self && size <= stateBytesMax {
			message.Sets = append(message.Sets, w.setProtoLocked(node))
		}
	}
	w.mu.Unlock()
	data, err := proto.Marshal(message)
	if err != nil {
		return nil // Only invalid UTF-8 in an id could do this; ids are checked on entry.
	}
	return data
}

func (w *warmSets) setProtoLocked(node state.NodeID) *clusterpb.GossipWarmSet {
	set := w.sets[node]
	return &clusterpb.GossipWarmSet{
		Node: string(node), Boot: set.boot, Seq: set.base,
		Functions: slices.Collect(maps.Keys(set.warm)),
	}
}
