// Package fairshare decides who is next when several want a resource that is held
// for a while and then given back: memory, or a turn on the processor. It is fair
// queueing over what each has used: the least use goes first.
//
// Use is what was held multiplied by the time, and fades: what somebody used ten
// seconds ago counts a third. So nobody is punished for having had the resource
// while nobody else wanted it, and nobody saves up for later.
//
// It is pure: no clock, no goroutine, no lock. Times come in with each call, so
// that the executor and a simulator run the same code.
package fairshare

import (
	"iter"
	"math"
	"time"
)

const (
	// memory is how fast use fades: to a third in this time.
	memory = 10 * time.Second
	// wantsFor is how long a wish counts that is not renewed.
	wantsFor = time.Second
	// negligible use is forgotten. What is held is counted in bytes or in turns, and
	// both count as nothing after some minutes.
	negligible = 1e-3
)

// Shares keeps the accounts of those who hold or want a resource. The zero value
// is ready for use.
type Shares[K comparable] struct {
	accounts map[K]*account
	arrivals uint64
}

// account is one holder's.
type account struct {
	held float64
	used float64   // held × seconds, faded, as of at
	at   time.Time // when used was computed

	wants   float64   // 0 for nothing
	arrival uint64    // orders those of equal use
	until   time.Time // when the wish lapses
}

// settle brings the use up to now.
func (a *account) settle(now time.Time) {
	dt := now.Sub(a.at).Seconds()
	if dt <= 0 {
		return
	}
	// The integral of what was held meanwhile, fading, beside the faded old use.
	fade := math.Exp(-dt / memory.Seconds())
	a.used = a.used*fade + a.held*memory.Seconds()*(1-fade)
	a.at = now
}

// weight is the use so far, and what is held as if for the fading time: a holder
// of much is ahead of one of little, even before either has used it.
func (a *account) weight(more float64) float64 {
	return a.used + (a.held+more)*memory.Seconds()
}

func (s *Shares[K]) account(k K, now time.Time) *account {
	a := s.accounts[k]
	if a == nil {
		if s.accounts == nil {
			s.accounts = map[K]*account{}
		}
		a = &account{at: now}
		s.accounts[k] = a
	}
	a.settle(now)
	return a
}

// Hold adds n to what k holds; a negative n gives back.
func (s *Shares[K]) Hold(k K, n float64, now time.Time) {
	a := s.account(k, now)
	a.held = max(0, a.held+n)
}

// Want says that k waits for n. It has to be renewed every second, which keeps
// the place; a wish of 0 is none.
func (s *Shares[K]) Want(k K, n float64, now time.Time) {
	a := s.account(k, now)
	if n > 0 && !a.wanting(now) {
		s.arrivals++
		a.arrival = s.arrivals
	}
	a.wants, a.until = n, now.Add(wantsFor)
}

func (a *account) wanting(now time.Time) bool { return a.wants > 0 && now.Before(a.until) }

// Waiting counts those whose wish counts now.
func (s *Shares[K]) Waiting(now time.Time) (n int) {
	for _, a := range s.accounts {
		if a.wanting(now) {
			n++
		}
	}
	return n
}

// Forget drops the accounts without holdings, wishes and use. It is to be called
// now and then.
func (s *Shares[K]) Forget(now time.Time) {
	for k, a := range s.accounts {
		if a.settle(now); a.held == 0 && a.used < negligible && !a.wanting(now) {
			delete(s.accounts, k)
		}
	}
}

// Least returns which of the candidates has used and holds the least, the first
// among equals. It reports false when there are none.
func (s *Shares[K]) Least(candidates iter.Seq[K], now time.Time) (least K, ok bool) {
	lowest := math.Inf(1)
	for k := range candidates {
		if w := s.account(k, now).weight(0); w < lowest {
			least, lowest, ok = k, w, true
		}
	}
	return least, ok
}

// First returns who is next of those who wait, and for how much: who has used and
// holds the least, with what it wants. Among equals the first to come is. What is
// wanted is 0 when nobody waits.
func (s *Shares[K]) First(now time.Time) (first K, wants float64) {
	best := s.first(now, nil)
	for k, a := range s.accounts {
		if a == best {
			return k, a.wants
		}
	}
	return first, 0
}

// first is First without but.
func (s *Shares[K]) first(now time.Time, but *account) *account {
	var best *account
	for _, a := range s.accounts {
		if a == but || !a.wanting(now) {
			continue
		}
		a.settle(now)
		switch d := compare(a, best); {
		case best == nil, d < 0, d == 0 && a.arrival < best.arrival:
			best = a
		}
	}
	return best
}

// compare orders two who want, by what they would have then.
func compare(a, b *account) float64 {
	if b == nil {
		return -1
	}
	return a.weight(a.wants) - b.weight(b.wants)
}

// Before tells whether k may take n now: nobody waits, or all who do would have
// more then, or as much and have come later.
func (s *Shares[K]) Before(k K, n float64, now time.Time) bool {
	a := s.account(k, now)
	w := s.first(now, a)
	if w == nil {
		return true
	}
	d := a.weight(n) - w.weight(w.wants)
	return d < 0 || d == 0 && a.wanting(now) && a.arrival < w.arrival
}

// Yields tells whether k should give n of what it holds to the first who waits:
// who would still not be ahead of k if it had what it wants.
func (s *Shares[K]) Yields(k K, now time.Time) bool {
	a := s.account(k, now)
	w := s.first(now, a)
	return w != nil && w.weight(w.wants) <= a.weight(0)
}
