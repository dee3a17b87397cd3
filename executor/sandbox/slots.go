//go:build linux && (amd64 || arm64)

package sandbox

import (
	"hash/fnv"
	"sync"
)

// slots hands out small numbers to living instances. A number stands for a
// private directory and, when the daemon is root, for a user id: both are free
// again once everything of their last owner is gone.
type slots struct {
	base, count, offset uint32

	mu   sync.Mutex
	free []uint32 // given back
	next uint32   // first that was never used
}

// newSlots lets the ids begin at a place in the range that the data directory
// chooses, so that several daemons on a machine rarely share one.
func newSlots(cfg Config) *slots {
	h := fnv.New32a()
	_, _ = h.Write([]byte(cfg.DataDir))
	return &slots{base: cfg.UIDBase, count: cfg.UIDCount, offset: h.Sum32() % cfg.UIDCount}
}

func (s *slots) take() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) > 0 {
		slot := s.free[0] // the one that was given back longest ago
		s.free = s.free[1:]
		return slot, nil
	}
	if s.next == s.count {
		return 0, ErrNoUID
	}
	s.next++
	return s.next - 1, nil
}

func (s *slots) give(slot uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, slot)
}

// uid is the user id that belongs to a slot.
func (s *slots) uid(slot uint32) uint32 { return s.base + (s.offset+slot)%s.count }
