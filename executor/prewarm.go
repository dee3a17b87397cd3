package executor

import (
	"time"

	"github.com/covey-dev/covey/internal/keepalive"
)

// rhythm is what a pool knows of its version's arrivals. The pool's lock guards it.
type rhythm struct {
	arrivals keepalive.Arrivals
	// idle is when the last call ended, zero while one runs.
	idle time.Time
	// woken is the idle time's beginning that the running calls ended.
	woken time.Time
	// ahead tells that an instance was started for the call that is expected next.
	ahead bool
}

// ended learns from a call that took so long and after which none is left.
func (r *rhythm) ended(now time.Time, took time.Duration) {
	if !r.woken.IsZero() {
		r.arrivals.Observe(now.Add(-took).Sub(r.woken))
		r.woken = time.Time{}
	}
	r.idle, r.ahead = now, false
}

// began notes that a call ended the idle time.
func (r *rhythm) began() {
	r.woken, r.idle = r.idle, time.Time{}
}

// prewarm starts an instance of a version without one whose calls come regularly,
// a little before the next is expected. It is a guess, so it takes only memory that
// is free and only a turn that nobody waits for.
func (p *pool) prewarm(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, spec := &p.rhythm, p.spec.Load()
	if r.idle.IsZero() || r.ahead || p.retired || len(p.all) > 0 {
		return
	}
	w, regular := r.arrivals.Expect()
	since := now.Sub(r.idle) + p.meanCold
	if !regular || since < w.From || since > w.To || !p.mayStartLocked(spec, now) || !p.e.spare(spec.Memory) {
		return
	}
	r.ahead = true
	p.startLocked(spec, now)
	for in := range p.all { // the only one
		in.ahead, in.until = true, r.idle.Add(w.To)
	}
	p.e.log.Debug().Str("function", p.key.String()).Time("expected_until", r.idle.Add(w.To)).
		Msg("instance is started ahead of its call")
}

// spare tells whether memory is free, and a turn to start, without anybody missing it.
func (e *Executor) spare(memory int64) bool {
	limit, queued := e.turns.figures()
	return limit > 0 && queued == 0 && e.memory.contended.Load() == 0 &&
		e.memory.inUse()+memory <= e.memory.budget
}

// settleGuessLocked counts an instance that was started ahead, once.
func (p *pool) settleGuessLocked(in *instance, used bool) {
	if !in.ahead {
		return
	}
	in.ahead = false
	result := "wasted"
	if used {
		result = "used"
	}
	p.m.prewarms.WithLabelValues(result).Inc()
}
