package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/scheduler/assign"
)

const (
	// leaseEvery is how often a node asks for the leader's state. Several questions fit
	// into the lease, so that an election or a lost answer does not end it.
	leaseEvery   = 2 * time.Second
	leaseTimeout = 3 * time.Second
)

// errNoLease refuses a function with reserved concurrency on a node that may not know
// the shares of today.
var errNoLease = fmt.Errorf("this node has not heard from the cluster's leader for %v, and the function has reserved concurrency: %w",
	assign.ReserveLease, plugins.ErrNotStarted)

// lease is until when this node's view is good enough to use shares of reserved
// concurrency by: everything that the leader had committed when the question was asked
// is in the view. It is measured by this process's monotonic clock alone. Safe for
// concurrent use.
type lease struct {
	// since returns the monotonic time since some fixed moment.
	since func() time.Duration
	until atomic.Int64
}

func newLease() *lease {
	began := time.Now()
	return &lease{since: func() time.Duration { return time.Since(began) }}
}

// renew asks; the lease runs from before the question, not from the answer.
func (l *lease) renew(ask func() error) error {
	asked := l.since()
	if err := ask(); err != nil {
		return err
	}
	until := int64(asked + assign.ReserveLease)
	for old := l.until.Load(); old < until && !l.until.CompareAndSwap(old, until); {
		old = l.until.Load()
	}
	return nil
}

func (l *lease) valid() bool { return int64(l.since()) < l.until.Load() }

// keepLease renews the lease until ctx ends.
func (n *Node) keepLease(ctx context.Context) error {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	held := true
	for {
		err := n.lease.renew(func() error {
			ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
			defer cancel()
			_, err := n.cluster.Consistent(ctx)
			return err
		})
		if valid := n.lease.valid(); valid != held && ctx.Err() == nil {
			held = valid
			if valid {
				n.log.Info().Msg("functions with reserved concurrency may start here again")
			} else {
				n.log.Warn().Err(err).Msg("no word from the leader: functions with reserved concurrency do not start here")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reservedShare is executor.Config.Share. The lease comes first: the view that is read
// after it is at least as new as the one that it is good for.
func (n *Node) reservedShare(app, function string) (int, error) {
	if !n.lease.valid() {
		return 0, errNoLease
	}
	key := state.FunctionKey{App: state.AppName(app), Name: state.FunctionName(function)}
	return n.cluster.View().Reservation(key).Place(n.cluster.ID()).Share, nil
}

// settledShares are the reservations of which something is withheld from this node that
// it uses no more: it knows of that, and what runs fits its share. The view comes first:
// whoever is let in after the count is so by this view or a newer one.
func (n *Node) settledShares() []settledShare {
	var settled []settledShare
	for _, r := range n.cluster.View().Reservations() {
		p := r.Place(n.cluster.ID())
		if p.Withheld > 0 && n.exec.Reserved(string(r.Function.App), string(r.Function.Name)) <= p.Share {
			settled = append(settled, settledShare{r.Function, p.Since})
		}
	}
	return settled
}

// settledShare says that what a node had of a function's reserved concurrency until an
// index is in use no more.
type settledShare struct {
	function state.FunctionKey
	since    state.Index
}
