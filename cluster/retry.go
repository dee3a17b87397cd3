package cluster

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/backoff"
)

// pause is a capped exponential backoff with jitter. The zero value is not
// usable; see newPause.
type pause struct {
	first, most, next time.Duration
}

func newPause(first, most time.Duration) *pause {
	return &pause{first: first, most: most, next: first}
}

// wait waits for the next, longer time; false means that ctx ended.
func (p *pause) wait(ctx context.Context) bool {
	d := p.next/2 + rand.N(p.next/2+1)
	p.next = min(2*p.next, p.most)
	return sleep(ctx, d)
}

// reset starts anew after a success.
func (p *pause) reset() { p.next = p.first }

// sleep waits; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dialBackoff is gRPC's own between attempts to connect.
func dialBackoff() backoff.Config {
	return backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
}
