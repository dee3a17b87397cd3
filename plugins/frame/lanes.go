package frame

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// LanesConfig says how lanes are made.
type LanesConfig struct {
	// Open makes a session with Lane set over a connection of its own. Required.
	Open func(ctx context.Context) (*Session, error)
	// Max bounds the lanes. Default 8. Each lane keeps two descriptors and two read buffers.
	Max int
}

// Lanes is a pool of further sessions to one peer for large bodies, one call at a time on each, so that a
// large body delays nobody and is sent without a copy. It is safe for concurrent use.
type Lanes struct {
	cfg LanesConfig
	wg  sync.WaitGroup

	mu     sync.Mutex
	idle   []*Session
	all    map[*Session]struct{}
	making int
	closed bool
}

// NewLanes returns an empty pool.
func NewLanes(cfg LanesConfig) *Lanes {
	if cfg.Max == 0 {
		cfg.Max = 8
	}
	return &Lanes{cfg: cfg, all: make(map[*Session]struct{})}
}

// Get returns an idle lane or a new one, or nil when Max lanes are busy. The caller gives it back with Put.
func (l *Lanes) Get(ctx context.Context) (*Session, error) {
	l.mu.Lock()
	for n := len(l.idle); n > 0; n = len(l.idle) {
		s := l.idle[n-1]
		l.idle = l.idle[:n-1]
		if s.Err() == nil {
			l.mu.Unlock()
			return s, nil
		}
	}
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	if len(l.all)+l.making >= l.cfg.Max {
		l.mu.Unlock()
		return nil, nil
	}
	l.making++
	// Counted before the lock is given up, so that Close waits for the lane being made.
	l.wg.Add(1)
	l.mu.Unlock()
	s, err := l.cfg.Open(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.making--
	if err != nil {
		l.wg.Done()
		return nil, fmt.Errorf("open lane: %w", err)
	}
	l.all[s] = struct{}{}
	go l.run(s)
	if l.closed {
		_ = s.Close()
		return nil, ErrClosed
	}
	return s, nil
}

// run reads a lane until it ends. What ended it reaches the calls on it.
func (l *Lanes) run(s *Session) {
	defer l.wg.Done()
	_ = s.Run()
	l.mu.Lock()
	delete(l.all, s)
	l.mu.Unlock()
}

// Put gives a lane back once its call has ended, stream included.
func (l *Lanes) Put(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && s.Err() == nil {
		l.idle = append(l.idle, s)
	}
}

// Drain sends DRAIN on all lanes and opens no more. Calls on them go on.
func (l *Lanes) Drain() error {
	l.mu.Lock()
	l.closed = true
	l.idle = nil
	all := slices.Collect(maps.Keys(l.all))
	l.mu.Unlock()
	var errs []error
	for _, s := range all {
		if err := s.Send(Drain, nil, nil); err != nil && s.Err() == nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close ends all lanes and waits for them. Idempotent.
func (l *Lanes) Close() {
	l.mu.Lock()
	l.closed = true
	l.idle = nil
	for s := range l.all {
		_ = s.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}
