package executor

import (
	"math/rand/v2"
	"time"
)

const (
	// freeFailures is how many instances in a row may fail before starts are
	// delayed: a single bad event must not stop a function.
	freeFailures = 3
	backoffBase  = 500 * time.Millisecond
	backoffMax   = 30 * time.Second
)

// backoff counts the instances in a row that ended without completing a call,
// and says when the next may start. The pool's lock guards it.
type backoff struct {
	failures int
	last     time.Time // of the newest failure counted
	until    time.Time
	reason   string
}

// fail counts an instance whose start was decided at asked. Instances that were
// started together fail together, and are counted once: those started before the
// newest counted failure learned nothing from it.
func (b *backoff) fail(now, asked time.Time, reason string) {
	b.reason = reason
	if !b.last.IsZero() && asked.Before(b.last) {
		return
	}
	b.failures++
	b.last = now
	if b.failures < freeFailures {
		return
	}
	delay := backoffMax
	if shift := b.failures - freeFailures; shift < 6 {
		delay = min(backoffMax, backoffBase<<shift)
	}
	// A tenth of jitter keeps the nodes of a cluster from trying in step.
	b.until = now.Add(delay - time.Duration(rand.Int64N(int64(delay/10))))
}

// succeed forgets all failures: an instance completed a call.
func (b *backoff) succeed() {
	if b.failures > 0 {
		*b = backoff{}
	}
}

// active reports whether starts are delayed.
func (b *backoff) active(now time.Time) bool { return now.Before(b.until) }

// err returns the refusal for the callers of key.
func (b *backoff) err(key Key) error {
	return &CrashLoopError{Key: key, Until: b.until.Round(0), Failures: b.failures, Reason: b.reason}
}
