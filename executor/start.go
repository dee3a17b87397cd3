package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/plugins"
)

// startBurst is how long a starting instance may hold its share of the start
// limit. The limit is there for the processors, and an initialisation that is
// still running after that is probably waiting for something else.
const startBurst = 250 * time.Millisecond

// starvedPause is how long a version that has instances or patient calls, but got
// no memory for another instance, waits before it tries again. It is woken sooner
// when memory is freed and it is next.
const starvedPause = 50 * time.Millisecond

// probeFor is how long after that starts are tried one at a time.
const probeFor = time.Second

// start brings the instance from nothing to READY. After an error nothing of a
// process is left.
func (in *instance) start() error {
	p, e := in.p, in.p.e
	if err := e.turns.enter(in.ctx, p.key); err != nil {
		return err
	}
	burst := time.AfterFunc(startBurst, func() { e.turns.leave(p.key) })
	defer func() {
		if burst.Stop() {
			e.turns.leave(p.key)
		}
	}()
	// It may have waited for its turn, and the world has changed.
	if !p.confirm(in) {
		return errNotNeeded
	}
	if !e.reserve(in.ctx, p.key, in.spec.Memory) {
		return ErrNoCapacity
	}
	in.reserved = true

	limit := p.startTimeout(in.spec)
	ctx, cancel := context.WithTimeoutCause(in.ctx, limit, fmt.Errorf("not ready within %v", limit))
	defer cancel()
	in.began = time.Now()
	var err error
	if in.launched, err = e.launch.launch(ctx, in); err != nil {
		return fmt.Errorf("launch: %w", err)
	}
	if _, err = in.plane.Ready(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		why := ""
		if _, died := errors.AsType[*plugins.ExitError](err); !died {
			why = err.Error()
		}
		in.finish(endNow, why)
		return err
	}
	p.m.starts.WithLabelValues("ok").Inc()
	p.m.startSeconds.Observe(time.Since(in.began).Seconds())
	e.log.Debug().Str("function", p.key.String()).Str("instance", in.id).Int("pid", in.process.Pid()).
		Float64("took_ms", time.Since(in.began).Seconds()*1e3).Msg("instance ready")
	return nil
}

// startFailed says what calls that waited for this start are told, nil if they
// need not be told anything, and counts the failure.
func (in *instance) startFailed(err error) error {
	p := in.p
	p.mu.Lock()
	closed, stopped := p.closed, in.why != ""
	p.mu.Unlock()
	switch {
	case errors.Is(err, errNotNeeded):
		return nil
	case stopped || in.ctx.Err() != nil: // not the function's fault
		return closed
	case errors.Is(err, ErrNoCapacity):
		p.m.starts.WithLabelValues("no_memory").Inc()
		p.mu.Lock()
		p.starveLocked(in, time.Now())
		p.mu.Unlock()
		return err
	}
	cause := &StartError{Key: p.key, Reason: err.Error(), Log: in.log.tail(), Err: err}
	if _, died := errors.AsType[*plugins.ExitError](err); died && in.exit != nil {
		cause.Reason = in.exit.Error() + " before it was ready"
		cause.Err = &plugins.ExitError{Cause: in.exit}
	}
	p.mu.Lock()
	p.failing.fail(time.Now(), in.asked, cause.Reason)
	failures, until := p.failing.failures, p.failing.until
	p.mu.Unlock()
	p.m.starts.WithLabelValues("failed").Inc()
	said := "start failed: " + cause.Reason
	if initial, ok := errors.AsType[*plugins.InitError](err); ok && initial.Stack != "" {
		said += "\n" + initial.Stack
	}
	in.log.platform(said)
	event := p.e.log.Debug()
	if failures == 1 || failures == freeFailures {
		event = p.e.log.Warn() // the first of a row, and the one that delays starts
	}
	event.Str("function", p.key.String()).Str("instance", in.id).Int("failures", failures).
		Time("next_start", until).Err(err).Msg("instance failed to start")
	return cause
}
