package blob

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

const (
	// nearOwners is how far along the ring a fetch asks without looking around
	// first. The owners of a while ago are among them.
	nearOwners = 5
	// fetchRounds bounds how often a fetch goes through its sources.
	fetchRounds = 3
	// askers bounds how many far nodes are asked at once whether they have a copy.
	askers = 8
)

// fetch copies d from other nodes into this store. It goes on at another node
// where one failed. Bytes that turn out wrong are thrown away, and then each
// source is tried alone, so that one rotten source cannot spoil the rest.
func (s *Store) fetch(ctx context.Context, d Digest) error {
	ring := s.others(d)
	near := ring[:min(nearOwners, len(ring))]
	err := s.fetchFrom(ctx, d, near)
	if err != nil && ctx.Err() == nil && len(ring) > len(near) {
		// A copy may lie where no owner is any more: a cache, or a former owner.
		if holders := s.holders(ctx, d, ring[len(near):]); len(holders) > 0 {
			err = s.fetchFrom(ctx, d, holders)
		}
	}
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	s.metrics.fetches.Inc()
	return nil
}

// others returns the other nodes of d's ring, the living first.
func (s *Store) others(d Digest) []string {
	var ring []string
	for _, node := range s.aliveFirst(s.cfg.Owners(d)) {
		if node != s.cfg.Self {
			ring = append(ring, node)
		}
	}
	return ring
}

// fetchFrom pulls from all nodes together, and after wrong bytes from each alone:
// together they cannot tell which of them lied.
func (s *Store) fetchFrom(ctx context.Context, d Digest, nodes []string) error {
	err := s.pull(ctx, d, nodes)
	if !errors.Is(err, ErrMismatch) {
		return err
	}
	causes := []error{err}
	for _, node := range nodes {
		if err := s.pull(ctx, d, []string{node}); err == nil {
			return nil
		} else if errors.Is(err, ErrNoSpace) || ctx.Err() != nil {
			return err
		} else {
			causes = append(causes, err)
		}
	}
	return errors.Join(causes...)
}

// pull builds one copy from nodes, which are asked one after the other, each for
// what is still missing. A node that does not have d is not asked again.
func (s *Store) pull(ctx context.Context, d Digest, nodes []string) error {
	p := &pulling{store: s, digest: d, buf: make([]byte, s.cfg.ChunkSize)}
	defer p.discard()
	var causes []error
	for round := range fetchRounds {
		if round > 0 {
			if err := pause(ctx, round); err != nil {
				return err
			}
		}
		var again []string
		causes = nil
		for _, node := range nodes {
			done, err := p.from(ctx, node)
			switch {
			case done:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, ErrNoSpace) || errors.Is(err, ErrTooLarge):
				return err
			case !errors.Is(err, ErrNotFound):
				again = append(again, node)
			}
			causes = append(causes, fmt.Errorf("node %s: %w", node, err))
		}
		if nodes = again; len(nodes) == 0 {
			break
		}
	}
	return errors.Join(append(causes, ErrNotFound)...)
}

// pulling is one copy being built.
type pulling struct {
	store  *Store
	digest Digest
	buf    []byte
	stage  *stage
	size   int64 // known once stage is not nil
}

// from asks node chunk by chunk. It reports done when all bytes are there; then
// the error is that of the commit.
func (p *pulling) from(ctx context.Context, node string) (done bool, err error) {
	for {
		var offset int64
		if p.stage != nil {
			offset = p.stage.size
		}
		n, size, err := p.store.getChunk(ctx, node, p.digest, offset, p.buf)
		if err != nil {
			return false, err
		}
		if p.stage == nil {
			if p.stage, err = p.store.newStage(size); err != nil {
				return false, err
			}
			p.size = size
		}
		if size != p.size || n < 0 || n > len(p.buf) || int64(n) > size-offset || (n == 0 && offset < size) {
			return false, fmt.Errorf("%w: %d bytes at %d of %d, expected size %d", ErrBadChunk, n, offset, size, p.size)
		}
		if _, err := p.stage.Write(p.buf[:n]); err != nil {
			return false, err
		}
		if p.stage.size == p.size {
			st := p.stage
			p.stage = nil
			return true, st.commit(p.digest)
		}
	}
}

// discard throws away what a pull that did not end well has built.
func (p *pulling) discard() {
	if p.stage != nil {
		p.stage.discard()
	}
}

// getChunk bounds one question to a node, which may hang without closing anything.
func (s *Store) getChunk(ctx context.Context, node string, d Digest, offset int64, buf []byte) (int, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ChunkTimeout)
	defer cancel()
	return s.cfg.Transport.Get(ctx, node, d, offset, buf)
}

// holders asks nodes for d, a few at a time, and returns those that have it.
func (s *Store) holders(ctx context.Context, d Digest, nodes []string) []string {
	has := make([]bool, len(nodes))
	var next sync.Mutex
	at := -1
	var asking sync.WaitGroup
	for range min(askers, len(nodes)) {
		asking.Go(func() {
			for {
				next.Lock()
				at++
				i := at
				next.Unlock()
				if i >= len(nodes) || ctx.Err() != nil {
					return
				}
				has[i] = s.asksOne(ctx, nodes[i], d)
			}
		})
	}
	asking.Wait()
	var found []string
	for i, node := range nodes {
		if has[i] {
			found = append(found, node)
		}
	}
	return found
}

// asksOne counts every failure as no: the search only loses one source by it.
func (s *Store) asksOne(ctx context.Context, node string, d Digest) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ChunkTimeout)
	defer cancel()
	has, err := s.cfg.Transport.Has(ctx, node, []Digest{d})
	return err == nil && len(has) == 1 && has[0]
}
