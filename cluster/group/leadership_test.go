package group

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func ready(context.Context) error { return nil }

func TestR17FlappingLeadershipNeverBlocksRaft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeadership()
		defer l.close()
		var running, most, runs atomic.Int32
		l.add(func(ctx context.Context) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			runs.Add(1)
			<-ctx.Done()
			time.Sleep(time.Second) // slow to let go
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx, ready) }()

		start := time.Now()
		for range 200 {
			l.notify <- true
			l.notify <- false
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("notifying took %v of the bubble's time: Raft would have waited", took)
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		l.notify <- true
		synctest.Wait()
		if running.Load() != 1 || most.Load() != 1 {
			t.Errorf("%d works run, at most %d did", running.Load(), most.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if running.Load() != 0 || runs.Load() == 0 {
			t.Errorf("%d works left, %d were run", running.Load(), runs.Load())
		}
	})
}

func TestLeaderWorkEndsWithLeadership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeadership()
		defer l.close()
		var ends, early atomic.Int32
		l.add(func(ctx context.Context) { <-ctx.Done(); ends.Add(1) })
		l.add(func(context.Context) { early.Add(1) }) // returns at once, and is not repeated
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx, ready) }()
		for want := int32(1); want <= 3; want++ {
			l.notify <- true
			synctest.Wait()
			if early.Load() != want || ends.Load() != want-1 {
				t.Errorf("after %d elections: %d begun, %d ended", want, early.Load(), ends.Load())
			}
			l.notify <- false
			synctest.Wait()
			if ends.Load() != want {
				t.Errorf("work outlives leadership %d", want)
			}
		}
		cancel()
		<-done
	})
}

// Raft says "leader" twice without "lost" between when its channel was full.
func TestLeadershipAnnouncedTwiceStartsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeadership()
		defer l.close()
		var runs atomic.Int32
		l.add(func(ctx context.Context) { runs.Add(1); <-ctx.Done() })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx, ready) }()
		l.notify <- true
		synctest.Wait()
		l.notify <- true
		synctest.Wait()
		if runs.Load() != 2 {
			t.Errorf("%d runs, want 2", runs.Load())
		}
		cancel()
		<-done
	})
}

func TestLeaderWorkWaitsUntilReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLeadership()
		defer l.close()
		var runs atomic.Int32
		l.add(func(context.Context) { runs.Add(1) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- l.run(ctx, func(ctx context.Context) error {
				<-ctx.Done() // lost before the state was current
				return errors.New("lost")
			})
		}()
		l.notify <- true
		synctest.Wait()
		l.notify <- false
		synctest.Wait()
		cancel()
		<-done
		if runs.Load() != 0 {
			t.Error("work ran on a state that was not current")
		}
	})
}
