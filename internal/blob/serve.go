package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// receiveMax bounds the blobs being received at once; the next sender hears
	// ErrBusy.
	receiveMax = 64
	// receiveIdle is how long a half-received blob waits for its sender.
	receiveIdle = time.Minute
)

// receive is a blob that arrives in chunks, in order. Several nodes may send the
// same one: each hears which offset comes next, so they help each other.
type receive struct {
	store *Store
	size  int64
	// last is when the latest chunk came, in Unix nanoseconds.
	last atomic.Int64

	mu    sync.Mutex
	stage *stage // nil before the first chunk and after the end
	ended bool
}

// abandon throws away what came so far. Its sender starts anew.
func (rx *receive) abandon() {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	rx.endLocked()
}

// endLocked throws the stage away. A chunk that comes later hears ErrBusy, and its
// sender begins a new receive.
func (rx *receive) endLocked() {
	if rx.stage != nil {
		rx.stage.discard()
		rx.stage = nil
	}
	rx.ended = true
}

// ServeHas answers Transport.Has for this node. A digest that is here is kept for
// the time of Config.GCAfter from now, because the asker relies on it.
func (s *Store) ServeHas(digests []Digest) []bool {
	has := make([]bool, len(digests))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range digests {
		if e := s.entries[d]; e != nil {
			e.unnamed = time.Time{}
			has[i] = true
		}
	}
	return has
}

// ServeGet answers Transport.Get for this node: it fills buf from offset and
// returns the blob's size. It never fetches. The bytes come from a file that this
// process has verified.
func (s *Store) ServeGet(ctx context.Context, d Digest, offset int64, buf []byte) (n int, size int64, err error) {
	f, err := s.openLocal(ctx, d)
	if errors.Is(err, ErrMismatch) {
		return 0, 0, fmt.Errorf("serve blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("serve blob %s: %w", d, err)
	}
	size = info.Size()
	if offset < 0 || offset > size {
		return 0, size, fmt.Errorf("%w: offset %d of %d", ErrBadChunk, offset, size)
	}
	n, err = f.ReadAt(buf[:min(int64(len(buf)), ChunkMax, size-offset)], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, size, fmt.Errorf("serve blob %s: %w", d, err)
	}
	return n, size, nil
}

// ServePut answers Transport.Put for this node. It returns the offset wanted
// next: the blob's size once the blob is durable here, and the offset to resume
// from when c is not the chunk that comes next.
func (s *Store) ServePut(ctx context.Context, c Chunk) (next int64, err error) {
	if err := s.checkChunk(c); err != nil {
		return 0, err
	}
	have, err := s.holds(ctx, c.Digest)
	if err != nil {
		return 0, err
	}
	if have {
		return c.Size, nil
	}
	rx, err := s.receiving(c)
	if err != nil {
		return 0, err
	}
	if rx == nil {
		return c.Size, nil
	}
	next, err = rx.take(c)
	if err != nil || next == c.Size {
		s.endReceive(c.Digest, rx)
	}
	if err == nil && next == c.Size {
		s.metrics.received.Add(float64(c.Size))
	}
	return next, err
}

// checkChunk refuses what no honest sender sends, before it costs anything.
func (s *Store) checkChunk(c Chunk) error {
	switch n := int64(len(c.Data)); {
	case n > ChunkMax, c.Size < 0, c.Offset < 0, c.Offset > c.Size, n > c.Size-c.Offset:
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrBadChunk, n, c.Offset, c.Size)
	case n == 0 && c.Size > 0:
		return fmt.Errorf("%w: no data", ErrBadChunk)
	case c.Size > s.cfg.SizeMax:
		return fmt.Errorf("receive blob of %d bytes: %w", c.Size, ErrTooLarge)
	}
	return nil
}

// holds reports whether a verified copy is here. A copy of an earlier life is
// verified before its sender may count on it.
func (s *Store) holds(ctx context.Context, d Digest) (bool, error) {
	if s.touch(d) {
		return true, nil
	}
	f, err := s.openLocal(ctx, d)
	switch {
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch):
		return false, nil
	case err != nil:
		return false, err
	}
	return s.touch(d), f.Close()
}

// receiving finds or begins the receive that c belongs to. It is nil when another
// sender's last chunk has completed the blob since ServePut looked: a new receive
// would only wait for its time to run out.
func (s *Store) receiving(c Chunk) (*receive, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if rx := s.receives[c.Digest]; rx != nil {
		if rx.size != c.Size {
			return nil, fmt.Errorf("%w: size %d, another sender says %d", ErrBadChunk, c.Size, rx.size)
		}
		return rx, nil
	}
	if s.touchLocked(c.Digest) {
		return nil, nil
	}
	if len(s.receives) >= receiveMax {
		return nil, ErrBusy
	}
	rx := &receive{store: s, size: c.Size}
	rx.last.Store(time.Now().UnixNano())
	s.receives[c.Digest] = rx
	return rx, nil
}

// take adds one chunk. An error ends the receive.
func (rx *receive) take(c Chunk) (next int64, err error) {
	rx.mu.Lock()
	defer rx.mu.Unlock()
	rx.last.Store(time.Now().UnixNano())
	if rx.ended {
		return 0, ErrBusy // another sender's chunk or the clock ended it just now
	}
	if rx.stage == nil {
		if rx.stage, err = rx.store.newStage(c.Size); err != nil {
			rx.ended = true
			return 0, err
		}
	}
	if c.Offset != rx.stage.size {
		return rx.stage.size, nil
	}
	if _, err := rx.stage.Write(c.Data); err != nil {
		rx.endLocked()
		return 0, err
	}
	if rx.stage.size < rx.size {
		return rx.stage.size, nil
	}
	st := rx.stage
	rx.stage, rx.ended = nil, true // commit ends the stage itself
	if err := st.commit(c.Digest); err != nil {
		return 0, err
	}
	return rx.size, nil
}

// endReceive lets the next chunk of d begin anew. The comparison spares a receive
// that has begun meanwhile.
func (s *Store) endReceive(d Digest, rx *receive) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.receives[d] == rx {
		delete(s.receives, d)
	}
}

// expireReceives gives up on senders that went silent.
func (s *Store) expireReceives(now time.Time) {
	var idle []*receive
	s.mu.Lock()
	for d, rx := range s.receives {
		if now.UnixNano()-rx.last.Load() >= int64(receiveIdle) {
			idle = append(idle, rx)
			delete(s.receives, d)
		}
	}
	s.mu.Unlock()
	for _, rx := range idle {
		rx.abandon()
	}
}
