package frame

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one incoming call. Most handlers never wait on it, so the channel, and the
// timer for the deadline, are made when somebody first asks for them.
type callContext struct {
	deadline time.Time // zero means none; fixed before the handler sees the context

	mu    sync.Mutex
	cause error           // why it was cancelled
	inner context.Context // made by the first Done
	stop  context.CancelCauseFunc
}

var _ context.Context = (*callContext)(nil)

// Deadline returns the time set by Incoming.SetTimeout.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done returns the channel of a context of the standard library, so that contexts derived from this one
// need no goroutine to follow it.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		ctx, stop := context.WithCancelCause(context.Background())
		c.stop = stop
		c.inner = ctx
		if !c.deadline.IsZero() {
			ctx, cancel := context.WithDeadline(ctx, c.deadline)
			c.inner = ctx
			c.stop = func(cause error) { stop(cause); cancel() }
		}
		if c.cause != nil {
			c.stop(c.cause)
		}
	}
	return c.inner.Done()
}

// Err returns nil until the context ends.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inner != nil:
		return c.inner.Err()
	case c.cause != nil:
		return context.Canceled
	case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value finds nothing but what package context itself asks for.
func (c *callContext) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		return nil
	}
	return c.inner.Value(key)
}

// cancel ends the context. Only the first cause counts.
func (c *callContext) cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	if c.stop != nil {
		c.stop(cause)
	}
}
