package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clustertest"
)

// registerOp is one operation on the register that the histories are about.
type registerOp struct {
	write bool
	value uint32
}

// register is the model: a read returns the value of the last write.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint32(0) },
		Step: func(st, in, out any) (bool, any) {
			op := in.(registerOp)
			if op.write {
				return true, op.value
			}
			return out.(uint32) == st.(uint32), st
		},
	}
}

// never is when a write of unknown outcome returned: it may take effect at any
// time.
const never = int64(1 << 62)

// history collects operations by many clients.
type history struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) add(client int, op registerOp, call time.Time, out uint32, returned bool) {
	end := never
	if returned {
		end = time.Since(h.start).Nanoseconds()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{
		ClientId: client, Input: op, Call: call.Sub(h.start).Nanoseconds(), Output: out, Return: end,
	})
}

// size returns how many reads and writes were answered so far.
func (h *history) size() (reads, writes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		switch {
		case !op.Input.(registerOp).write:
			reads++
		case op.Return != never:
			writes++
		}
	}
	return reads, writes
}

// grow waits until enough was read and written since the call to show something;
// how long that takes is the machine's affair.
func (h *history) grow(t *testing.T, when string) {
	t.Helper()
	const enough = 5
	reads, writes := h.size()
	clustertest.Eventually(t, time.Minute, "read and write "+when, func() error {
		r, w := h.size()
		if r-reads < enough || w-writes < enough {
			return fmt.Errorf("%d reads and %d writes since", r-reads, w-writes)
		}
		return nil
	})
}

// TestR3ReadsAreLinearizable: clients write and read through all nodes while
// leaders are cut off; no consistent read is ever older than what was acknowledged
// before it.
func TestR3ReadsAreLinearizable(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	h := &history{start: time.Now()}
	var next atomic.Uint32
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for client := range 6 {
		clients.Go(func() {
			for ctx.Err() == nil {
				n := fleet.Nodes()[rand.IntN(3)]
				if client%2 == 0 {
					h.write(t, ctx, client, n, next.Add(1))
				} else {
					h.read(t, ctx, client, n)
				}
			}
		})
	}
	for range clustertest.Times(2, 30) {
		h.grow(t, "before the cut")
		leader := fleet.Leader()
		fleet.Isolate(leader)
		// Past its lease, so that what is answered then is answered by another leader.
		<-time.After(3 * cluster.FastTimings().Raft.Lease)
		h.grow(t, "behind the cut")
		fleet.Heal(leader)
	}
	h.grow(t, "after the cuts")
	cancel()
	clients.Wait()
	h.check(t)
}

// check looks for an order of all operations that explains what the reads saw.
func (h *history) check(t *testing.T) {
	t.Helper()
	seen := map[uint32]bool{}
	for _, op := range h.ops {
		if !op.Input.(registerOp).write {
			seen[op.Output.(uint32)] = true
		}
	}
	var ops []porcupine.Operation
	reads, writes := 0, 0
	for _, op := range h.ops {
		in := op.Input.(registerOp)
		switch {
		case !in.write:
			reads++
		case op.Return == never && !seen[in.value]:
			// Nobody saw it, so it may as well have come last, and the search is shorter.
			continue
		default:
			writes++
		}
		ops = append(ops, op)
	}
	if result := porcupine.CheckOperationsTimeout(register(), ops, time.Minute); result != porcupine.Ok {
		t.Errorf("history of %d reads and %d writes: linearizable is %v", reads, writes, result)
		for _, op := range ops {
			t.Logf("client %d: %+v = %v, %v to %v", op.ClientId, op.Input, op.Output,
				time.Duration(op.Call), time.Duration(op.Return))
		}
	}
}

func (h *history) write(t *testing.T, ctx context.Context, client int, n *clustertest.Node, value uint32) {
	op, call := registerOp{write: true, value: value}, time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	switch err := clustertest.PutLimits(ctx, n, "register", value); {
	case err == nil:
		h.add(client, op, call, 0, true)
	case errors.Is(err, cluster.ErrOutcomeUnknown), ctx.Err() != nil && !errors.Is(err, cluster.ErrNoLeader):
		h.add(client, op, call, 0, false)
	case errors.Is(err, cluster.ErrNoLeader), errors.Is(err, cluster.ErrOverloaded):
	default:
		t.Errorf("write: %v", err)
	}
}

func (h *history) read(t *testing.T, ctx context.Context, client int, n *clustertest.Node) {
	call := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	view, err := n.Cluster().Consistent(ctx)
	switch {
	case err == nil:
		h.add(client, registerOp{}, call, clustertest.LimitOf(view, "register"), true)
	case ctx.Err() == nil && !errors.Is(err, cluster.ErrNoLeader):
		t.Errorf("read: %v", err)
	}
}
