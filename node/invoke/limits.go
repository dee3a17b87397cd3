package invoke

import (
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/covey-dev/covey/cluster/state"
)

// limits enforces what an app may do on this node, calls per second and calls at
// once, and the rates of functions. Most apps have neither, which costs one comparison.
type limits struct {
	apps  sync.Map // state.AppName → *appLimits
	rates sync.Map // state.FunctionKey → *functionRate
}

// functionRate is the bucket of a function: all of its versions take from one.
type functionRate struct {
	perSecond, burst uint32
	bucket           *rate.Limiter
}

// allow takes a token of the function's rate on this node, which most do not have.
func (l *limits) allow(t *target) error {
	r := t.rate
	if r == nil {
		return nil
	}
	key := t.version.Key.FunctionKey()
	found, _ := l.rates.Load(key)
	f, ok := found.(*functionRate)
	if !ok || f.perSecond != r.GetPerSecond() || f.burst != r.GetBurst() {
		f = &functionRate{r.GetPerSecond(), r.GetBurst(), newBucket(r.GetPerSecond(), r.GetBurst())}
		l.rates.Store(key, f)
	}
	if !f.bucket.Allow() {
		return &BusyError{Function: t.name, Reason: "the function's rate limit on this node is reached", RetryAfter: retryAfter}
	}
	return nil
}

type appLimits struct {
	app     *state.App // whose limits these are; a new one means new limits
	rate    *rate.Limiter
	running atomic.Int64
}

// newBucket lets a second's calls come at once, or more.
func newBucket(perSecond, burst uint32) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), int(max(burst, perSecond)))
}

// enter takes a place for one call; the function it returns gives it back, and is
// nil when there is nothing to give back.
func (l *limits) enter(app *state.App, function string) (func(), error) {
	if app == nil || app.Limits == nil || (app.Limits.GetInvocationsPerSecond() == 0 && app.Limits.GetConcurrency() == 0) {
		return nil, nil
	}
	a := l.of(app)
	if a.rate != nil && !a.rate.Allow() {
		return nil, &BusyError{Function: function, Reason: "the app's rate limit on this node is reached", RetryAfter: retryAfter}
	}
	if most := int64(app.Limits.GetConcurrency()); most > 0 && a.running.Add(1) > most {
		a.running.Add(-1)
		return nil, &BusyError{Function: function, Reason: "the app's concurrency limit on this node is reached", RetryAfter: retryAfter}
	} else if most == 0 {
		return nil, nil
	}
	return func() { a.running.Add(-1) }, nil
}

// of returns the counters of an app, made anew when its limits have changed.
func (l *limits) of(app *state.App) *appLimits {
	if found, ok := l.apps.Load(app.Name); ok {
		if a := found.(*appLimits); a.app.Limits == app.Limits {
			return a
		}
	}
	a := &appLimits{app: app}
	if per := app.Limits.GetInvocationsPerSecond(); per > 0 {
		a.rate = newBucket(per, app.Limits.GetBurst())
	}
	l.apps.Store(app.Name, a)
	return a
}
