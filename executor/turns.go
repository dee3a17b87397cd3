package executor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/covey-dev/covey/internal/fairshare"
	"github.com/covey-dev/covey/internal/pace"
)

// turnstile lets instances start a few at a time. Among versions that wait for a turn
// the one goes first that has used the fewest turns of late, so that the thousand
// starts of one function do not stand before the single one of another.
type turnstile struct {
	mu      sync.Mutex
	limit   pace.Limit            // guarded by mu
	running int                   // guarded by mu; turns that are taken
	queued  int                   // guarded by mu; turns that are waited for
	lines   []*line               // guarded by mu; of versions that wait, in order of arrival
	shares  fairshare.Shares[Key] // guarded by mu; of turns
	crowded bool                  // guarded by mu; a start waited since the last measurement
}

// line is the starts of one version that wait for their turn.
type line struct {
	key   Key
	turns []chan struct{} // closed when the turn has come
}

// enter waits for a turn to start an instance of key, which leave gives back.
func (g *turnstile) enter(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	g.mu.Lock()
	if g.queued == 0 && g.running < g.limit.Now(now) {
		g.takeLocked(key, now)
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.queueLocked(key, turn)
	g.serveLocked(now)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	left := g.dequeueLocked(key, turn)
	g.mu.Unlock()
	if !left {
		g.leave(key) // the turn came at the same moment
	}
	return ctx.Err()
}

// leave gives a turn back.
func (g *turnstile) leave(key Key) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.shares.Hold(key, -1, now)
	g.serveLocked(now)
}

// observe takes a measurement of the processors, which ok says is one.
func (g *turnstile) observe(pressure float64, ok bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ok {
		g.limit.Observe(pressure, g.crowded, now)
	}
	g.crowded = g.queued > 0
	g.shares.Forget(now)
	g.serveLocked(now)
}

// figures returns the limit, and how many starts wait for their turn.
func (g *turnstile) figures() (limit, queued int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit.Now(time.Now()), g.queued
}

func (g *turnstile) takeLocked(key Key, now time.Time) {
	g.running++
	g.shares.Hold(key, 1, now)
}

func (g *turnstile) queueLocked(key Key, turn chan struct{}) {
	g.queued++
	g.crowded = true
	for _, l := range g.lines {
		if l.key == key {
			l.turns = append(l.turns, turn)
			return
		}
	}
	g.lines = append(g.lines, &line{key: key, turns: []chan struct{}{turn}})
}

// dequeueLocked takes a turn out of its line. It reports false when it is not
// there, because it has come.
func (g *turnstile) dequeueLocked(key Key, turn chan struct{}) bool {
	for i, l := range g.lines {
		at := slices.Index(l.turns, turn)
		if l.key != key || at < 0 {
			continue
		}
		l.turns = slices.Delete(l.turns, at, at+1)
		if len(l.turns) == 0 {
			g.lines = slices.Delete(g.lines, i, i+1)
		}
		g.queued--
		return true
	}
	return false
}

// serveLocked gives out the turns that are free.
func (g *turnstile) serveLocked(now time.Time) {
	for g.queued > 0 && g.running < g.limit.Now(now) {
		key, _ := g.shares.Least(func(yield func(Key) bool) {
			for _, l := range g.lines {
				if !yield(l.key) {
					return
				}
			}
		}, now)
		at := slices.IndexFunc(g.lines, func(l *line) bool { return l.key == key })
		turn := g.lines[at].turns[0]
		g.dequeueLocked(key, turn)
		g.takeLocked(key, now)
		close(turn)
	}
}
