package wasm

import (
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

const (
	// hostMemory is what this process needs for itself of its limit, with one call at a time.
	hostMemory = 24 << 20
	// callMemory is what it needs more for each further call at once. wazero keeps 1.2 MiB for a running module that Go
	// has compiled, and the rest spares the process collecting garbage all the time.
	callMemory = 2 << 20
	// keepMost is the size up to which a memory is cleared and used again instead of being given back: clearing costs
	// less than the interrupts with which the kernel tells all processors that pages are gone.
	keepMost = 512 << 10
	// keepCount is how many are kept.
	keepCount = 8
	// leastMemory is what modules get of a limit that is hardly above that: they rather find out themselves.
	leastMemory = 1 << 20
)

// budget is the memory that all modules of the instance have together.
type budget struct {
	most uint64 // zero for no limit
	used atomic.Uint64

	mu   sync.Mutex
	kept [][]byte // cleared memories
}

// ownMemory is what this process needs for itself when it runs so many calls at once.
func ownMemory(concurrency uint32) uint64 {
	return hostMemory + uint64(max(concurrency, 1)-1)*callMemory
}

// newBudget makes the budget of an instance with so much memory, zero for no limit, of which the process needs own
// for itself.
func newBudget(limit, own uint64) *budget {
	switch {
	case limit == 0:
		return &budget{}
	case limit < own+leastMemory:
		return &budget{most: leastMemory}
	}
	return &budget{most: limit - own}
}

// take takes n bytes, or nothing.
func (b *budget) take(n uint64) bool {
	if b.used.Add(n) <= b.most || b.most == 0 {
		return true
	}
	b.give(n)
	return false
}

func (b *budget) give(n uint64) { b.used.Add(-n) }

// reserve returns zeroed memory for a module that may grow to most bytes.
func (b *budget) reserve(most uint64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last := len(b.kept) - 1; last >= 0 && uint64(len(b.kept[last])) == most {
		kept := b.kept[last]
		b.kept = b.kept[:last]
		return kept, nil
	}
	return reserve(most)
}

// release takes memory back of which the module used the first so many bytes.
func (b *budget) release(reserved []byte, used uint64) {
	b.give(used)
	if used <= keepMost && reserved != nil {
		clear(reserved[:used])
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.kept) < keepCount {
			b.kept = append(b.kept, reserved)
			return
		}
	}
	unreserve(reserved)
}

// allocator gives one module its memory, outside of Go's heap: the kernel makes only those pages that the module
// touches, and has large ones back at once.
type allocator struct {
	budget *budget
	given  []*memory
}

var _ experimental.MemoryAllocator = (*allocator)(nil)

// Allocate reserves addresses for a memory of up to most bytes.
func (a *allocator) Allocate(_, most uint64) experimental.LinearMemory {
	if a.budget.most > 0 {
		most = min(most, a.budget.most)
	}
	m := &memory{budget: a.budget}
	// Without addresses the first Reallocate fails, which is all that there is to say.
	m.reserved, _ = a.budget.reserve(most)
	a.given = append(a.given, m)
	return m
}

// release gives everything back. The module must have ended.
func (a *allocator) release() {
	for _, m := range a.given {
		a.budget.release(m.reserved, m.size)
	}
	a.given = nil
}

// memory is the linear memory of one module.
type memory struct {
	budget   *budget
	reserved []byte
	size     uint64
}

// Reallocate grows the memory at its place, or returns nil.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.reserved)) || size > m.size && !m.budget.take(size-m.size) {
		return nil
	}
	m.size = max(m.size, size)
	return m.reserved[:size:size]
}

// Free does nothing: wazero calls it while the module is still on the stack.
func (m *memory) Free() {}
