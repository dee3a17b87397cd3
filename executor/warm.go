package executor

import "time"

// aheadFor is how long instances that Warm asked for are kept as if they were part of
// the version's minimum. It outlasts the time between two requests of one who waits for
// them, and from the last one to the first calls.
const aheadFor = 30 * time.Second

// ahead is how many instances a version shall have before it is called.
type ahead struct {
	instances int
	until     time.Time
}

// Warm has at least n instances of the spec's version here, within its Max, and keeps
// them for half a minute even if nobody calls them. It does not wait until they are
// ready: Load tells, and Failing why they do not get there.
func (e *Executor) Warm(spec *Spec, n int) error {
	p, err := e.pool(spec)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.ahead = ahead{instances: n, until: time.Now().Add(aheadFor)}
	p.retired = false
	p.mu.Unlock()
	p.ensureMin()
	return nil
}

// leastLocked is how many instances are kept without any call.
func (p *pool) leastLocked(now time.Time) int {
	least := p.spec.Load().Min
	if now.Before(p.ahead.until) {
		least = max(least, p.ahead.instances)
	}
	return least
}
