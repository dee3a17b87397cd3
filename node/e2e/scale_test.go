package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestMaxAndQueueHoldExactly holds the handler on a barrier: of 200 callers 8
// run, 64 wait and 128 are refused; after the release 72 have succeeded, and the
// instances go away after their idle time.
func TestMaxAndQueueHoldExactly(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("nodes=%d", nodes), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, nodes)
			queue := uint32(64)
			c.deploy("held", wire.FunctionSpec{Max: 8, Concurrency: 1, Queue: &queue, IdleTTLMS: 2000, TimeoutMS: 120_000})
			if nodes > 1 {
				awaitShares(t, c)
			}
			holdExactly(t, c)
		})
	}
}

// awaitShares waits until every node knows its share of the function: each has
// been told of the assignment once it can run a call of its own.
func awaitShares(t *testing.T, c *cluster) {
	t.Helper()
	await(t, 60*time.Second, "all nodes know each other and the function", func() error {
		var index uint64
		for _, n := range c.nodes {
			s, err := c.status(n)
			if err != nil {
				return err
			}
			if s.Alive != len(c.nodes) {
				return fmt.Errorf("%s sees %d nodes alive", n.name, s.Alive)
			}
			if index = max(index, s.Index); s.Index < index {
				return fmt.Errorf("%s is at index %d of %d", n.name, s.Index, index)
			}
		}
		return nil
	})
}

func holdExactly(t *testing.T, c *cluster) {
	t.Helper()
	const callers, runs, waits = 200, 8, 64
	cl := c.once()
	var mu sync.Mutex
	var refused, succeeded int
	var wrong []error
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			defer cancel()
			body, _ := json.Marshal(ledger.Order{Op: ledger.OpHold})
			_, err := cl.Invoke(ctx, &client.Call{Function: "held", Body: body, RequestID: ulid.Make().String()})
			mu.Lock()
			defer mu.Unlock()
			switch p := problem(err); {
			case err == nil:
				succeeded++
			case p != nil && p.Status == 429 && p.RetryAfter > 0:
				refused++
			default:
				wrong = append(wrong, err)
			}
		})
	}
	counts := func() (instances, running, queued int, err error) {
		for _, n := range c.nodes {
			nodes, err := c.list(n)
			if err != nil {
				return 0, 0, 0, err
			}
			for _, s := range nodes {
				if s.ID == c.id(n) {
					instances, running, queued = instances+s.Instances, running+s.InFlight, queued+s.Queued
				}
			}
		}
		return instances, running, queued, nil
	}
	await(t, 40*time.Second, "8 run, 64 wait, 128 are refused", func() error {
		instances, running, queued, err := counts()
		mu.Lock()
		defer mu.Unlock()
		if err == nil && (running != runs || queued != waits || instances != runs || refused != callers-runs-waits) {
			err = fmt.Errorf("%d instances, %d run, %d wait, %d refused, %d succeeded, others %v",
				instances, running, queued, refused, succeeded, errors.Join(wrong...))
		}
		return err
	})
	b := openBooks(t)
	executions := func() int {
		b.read(c.nodes...)
		return len(b.byRequest())
	}
	await(t, 10*time.Second, "8 executions began", func() error { // they are counted before they write
		if got := executions(); got != runs {
			return fmt.Errorf("%d executions", got)
		}
		return nil
	})
	for _, n := range c.nodes {
		n.release()
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Error("callers still wait a minute after the release")
	}
	b.readLogs(c.client(), "held")
	mu.Lock()
	if succeeded != runs+waits || refused != callers-runs-waits || len(wrong) > 0 {
		t.Errorf("%d succeeded, %d refused, others: %v", succeeded, refused, errors.Join(wrong...))
	}
	mu.Unlock()
	if got := len(b.byRequest()); got != runs+waits {
		t.Errorf("%d ids ran, want %d", got, runs+waits)
	}
	await(t, 20*time.Second, "instances return to zero", func() error {
		instances, _, _, err := counts()
		if err == nil && instances != 0 {
			err = fmt.Errorf("%d instances", instances)
		}
		return err
	})
}
