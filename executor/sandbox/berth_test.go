//go:build linux && (amd64 || arm64)

package sandbox

import (
	"testing"
	"testing/synctest"
	"time"
)

// restingBerths returns berths of which n are ready and one was taken just now.
func restingBerths(n int) *berths {
	b := &berths{ready: make(chan *berth, berthsReady), few: make(chan struct{}, 1), stop: make(chan struct{})}
	for range n + 1 {
		b.ready <- &berth{}
	}
	_, _ = b.take() // cannot fail while one is ready
	return b
}

func TestBerthsAreMadeAfterTheStartThatTookOne(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		ready int
		want  time.Duration
	}{
		{"quiet", berthsReady - 1, refillAfter},
		{"half is left", berthsReady / 2, refillAfter},
		{"burst", berthsReady/2 - 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := restingBerths(tc.ready)
				began := time.Now()
				if !b.rest() {
					t.Error("rest says that no more berths are wanted")
				}
				if took := time.Since(began); took != tc.want {
					t.Errorf("rested %v, want %v", took, tc.want)
				}
			})
		})
	}
}

func TestBerthsBeginningBurstEndsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := restingBerths(berthsReady / 2)
		began := time.Now()
		done := make(chan bool)
		go func() { done <- b.rest() }()
		synctest.Wait()
		_, _ = b.take()
		if !<-done || time.Since(began) != 0 {
			t.Errorf("rest went on for %v", time.Since(began))
		}
	})
}

func TestBerthsStopEndsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := restingBerths(berthsReady - 1)
		done := make(chan bool)
		go func() { done <- b.rest() }()
		synctest.Wait()
		close(b.stop)
		if <-done {
			t.Error("rest wants another berth after the stop")
		}
	})
}
