package scheduler

import (
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Rings lets the schedulers of many simulated nodes share what is the same for
// all of them: the sorted points of their ring. It is safe for concurrent use.
type Rings struct {
	mu     sync.Mutex
	sorted map[uint64]ring // guarded by mu; by members, with their places in the list
}

// ring returns the ring of the nodes. A nil Rings builds it.
func (r *Rings) ring(nodes []*node) ring {
	if r == nil {
		return newRing(nodes)
	}
	key := xxhash.New()
	for _, n := range nodes {
		_, _ = key.WriteString(string(n.id))
		_, _ = key.Write([]byte{0})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sorted == nil {
		r.sorted = map[uint64]ring{}
	}
	shared, ok := r.sorted[key.Sum64()]
	if !ok {
		numbered := make([]*node, len(nodes))
		for i, n := range nodes {
			numbered[i] = &node{id: n.id, index: int32(i)}
		}
		shared = newRing(numbered)
		r.sorted[key.Sum64()] = shared
	}
	return shared
}
