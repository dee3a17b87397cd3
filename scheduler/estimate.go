package scheduler

import "time"

// fullFor is how long a node is taken for full.
const fullFor = 100 * time.Millisecond

// estimate is the load of one node as far as one version goes.
type estimate struct {
	// tag is the node's index plus one; zero is an empty slot.
	tag int32
	// instances were reported there.
	instances int32
	// sent is what this node has under way there: exact, so it does not fade.
	sent int32
	// full was reported or shown by a refusal.
	full bool
	// others is the load reported at that time less our own part of it.
	others float64
	at     int64
}

// believedFull reports whether the node is thought to refuse. The belief is
// short: nobody announces that a slot came free.
func (e *estimate) believedFull(now int64) bool {
	return e != nil && e.full && now-e.at < int64(fullFor)
}

// estimates is a small hash table of estimates by node: one block of memory, of
// which a look-up touches one line. It only grows, and never beyond twice the
// nodes that were sent calls.
type estimates struct {
	slots []estimate // a power of two of them
	count int
}

// get returns the node's estimate or nil. It is valid until the next add.
func (t *estimates) get(index int32) *estimate {
	if t.count == 0 {
		return nil
	}
	e := t.probe(index + 1)
	if e.tag == 0 {
		return nil
	}
	return e
}

// add returns the node's estimate, making one when there is none. It is valid
// until the next add.
func (t *estimates) add(index int32) *estimate {
	if 4*(t.count+1) > 3*len(t.slots) {
		t.grow()
	}
	e := t.probe(index + 1)
	if e.tag == 0 {
		e.tag = index + 1
		t.count++
	}
	return e
}

// probe finds the slot that has the tag, or the empty one where it belongs.
func (t *estimates) probe(tag int32) *estimate {
	mask := uint32(len(t.slots) - 1)
	// Indexes are dense, so they spread by themselves but for strides.
	for i := uint32(tag) * 0x9e3779b1 >> 8 & mask; ; i = (i + 1) & mask {
		if e := &t.slots[i]; e.tag == tag || e.tag == 0 {
			return e
		}
	}
}

// grow doubles the table, which invalidates what get and add returned.
func (t *estimates) grow() {
	old := t.slots
	t.slots = make([]estimate, max(4, 2*len(old)))
	for i := range old {
		if old[i].tag != 0 {
			*t.probe(old[i].tag) = old[i]
		}
	}
}
