package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Put stores what r yields and returns its digest and size once it is durable on
// enough owners. On an error nothing may name the digest; repeating is safe and
// cheap. The error wraps ErrNoSpace, ErrTooLarge or ErrNotDurable where they
// apply.
func (s *Store) Put(ctx context.Context, r io.Reader) (Digest, int64, error) {
	st, err := s.newStage(0)
	if err != nil {
		return Digest{}, 0, err
	}
	if err := copyChecked(ctx, st, r); err != nil {
		st.discard()
		return Digest{}, 0, fmt.Errorf("put blob: %w", err)
	}
	d, size := st.digest(), st.size
	if err := st.commit(d); err != nil {
		return d, size, err
	}
	if err := s.replicate(ctx, d, size); err != nil {
		return d, size, err
	}
	s.metrics.puts.Inc()
	return d, size, nil
}

// replicate returns once durableCount nodes of the ring have d, or all of them
// when they are fewer. The nodes are tried in the order of ownership, those
// thought alive first; the remaining owner fetches for itself once the digest is
// named.
func (s *Store) replicate(ctx context.Context, d Digest, size int64) error {
	ring := s.cfg.Owners(d)
	need := min(durableCount, max(len(ring), 1))
	candidates := s.aliveFirst(ring)
	if len(ring) == 0 {
		candidates = []string{s.cfg.Self} // not yet a member: a cluster of one
	}
	p := placing{candidates: candidates, need: need}
	var senders sync.WaitGroup
	for range need {
		senders.Go(func() {
			for {
				node, ok := p.next()
				if !ok {
					return
				}
				p.done(node, s.sendTo(ctx, node, d, size))
			}
		})
	}
	senders.Wait()
	if p.have < need {
		return &NotDurableError{Digest: d, Have: p.have, Need: need, Causes: p.causes}
	}
	return nil
}

// placing is the progress of one replication.
type placing struct {
	need int

	mu         sync.Mutex
	candidates []string
	busy       int
	have       int
	causes     []error
}

// next hands out the next candidate while one more sender is useful.
func (p *placing) next() (node string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.have+p.busy >= p.need || len(p.candidates) == 0 {
		return "", false
	}
	node, p.candidates = p.candidates[0], p.candidates[1:]
	p.busy++
	return node, true
}

// done settles a candidate. A failed one makes room for the next.
func (p *placing) done(node string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if err != nil {
		p.causes = append(p.causes, fmt.Errorf("node %s: %w", node, err))
		return
	}
	p.have++
}

// aliveFirst keeps the ring's order among the living and among the others.
func (s *Store) aliveFirst(ring []string) []string {
	order := slices.Clone(ring)
	slices.SortStableFunc(order, func(a, b string) int { return s.absence(a) - s.absence(b) })
	return order
}

// absence ranks a node: 0 is thought alive, 1 is not. This node always is.
func (s *Store) absence(node string) int {
	if node == s.cfg.Self || s.cfg.Alive(node) {
		return 0
	}
	return 1
}

// sendAttempts bounds the tries on one node. Each goes on where the last one
// stopped.
const sendAttempts = 3

// sendTo returns once node has d on its disk.
func (s *Store) sendTo(ctx context.Context, node string, d Digest, size int64) error {
	if node == s.cfg.Self {
		return nil
	}
	var err error
	for attempt := range sendAttempts {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		}
		if err = s.send(ctx, node, d, size); err == nil || ctx.Err() != nil || refused(err) {
			return err
		}
	}
	return err
}

// refused tells errors that another try at the same node would only repeat.
func refused(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMismatch) || errors.Is(err, ErrBadChunk)
}

// pause waits longer from attempt to attempt, with jitter.
func pause(ctx context.Context, attempt int) error {
	d := 50 * time.Millisecond << min(attempt, 5)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send pushes d's chunks. The receiver says which offset it wants, so a copy that
// is already there, or half there, costs one chunk only.
func (s *Store) send(ctx context.Context, node string, d Digest, size int64) error {
	f, err := s.openLocal(ctx, d)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()

	buf := make([]byte, min(int64(s.cfg.ChunkSize), max(size, 1)))
	var offset int64
	for stuck := 0; stuck < sendAttempts; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-offset)], offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read blob %s: %w", d, err)
		}
		next, err := s.putChunk(ctx, node, Chunk{Digest: d, Size: size, Offset: offset, Data: buf[:n]})
		switch {
		case err != nil:
			return err
		case next == size:
			s.metrics.sent.Add(float64(size))
			return nil
		case next < 0 || next > size:
			return fmt.Errorf("%w: receiver wants offset %d of %d", ErrBadChunk, next, size)
		case next <= offset:
			stuck++ // it lost what it had; one or two of these are a restart
		}
		offset = next
	}
	return fmt.Errorf("send blob %s: receiver makes no progress", d)
}

// putChunk bounds one chunk's round trip.
func (s *Store) putChunk(ctx context.Context, node string, c Chunk) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ChunkTimeout)
	defer cancel()
	return s.cfg.Transport.Put(ctx, node, c)
}
