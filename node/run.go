package node

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// layer is a group of tasks that end together. Layers start from the ground up
// and end from the top down.
type layer struct {
	tasks *errgroup.Group
	ctx   context.Context
	stop  context.CancelFunc
}

// newLayer makes a layer whose failure is reported to failed.
func newLayer(failed func(error)) *layer {
	ctx, stop := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	l := &layer{tasks: g, ctx: ctx, stop: stop}
	context.AfterFunc(ctx, func() {
		if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
			failed(err)
		}
	})
	return l
}

// run adds a task. A task that fails ends its layer, and with it the node.
func (l *layer) run(name string, task func(context.Context) error) {
	l.tasks.Go(func() error {
		if err := task(l.ctx); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func (l *layer) end() error {
	l.stop()
	return l.tasks.Wait()
}

// Run serves until ctx ends or a part of the node fails. It then stops in order
// and returns once nothing of the node is left. It is called once.
//
// The order, and why: refuse new work, so that balancers and peers turn away;
// finish the calls in flight, up to the drain timeout; end the instances; hand
// over leadership and leave gossip, so that the others need not find out; close
// Raft and the stores.
func (n *Node) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	ground := newLayer(fail)
	ground.run("cluster", n.cluster.Run)
	work := newLayer(fail)
	work.run("blobs", n.blobs.Run)
	work.run("executor", n.exec.Run)
	work.run("peer link", n.link.Run)
	work.run("lease", n.keepLease)
	work.run("usage", n.journal.Run)
	work.run("fleet", n.keepFleet)
	work.run("code", n.keepCode)
	work.run("access keys", n.sweepKeys)
	front := newLayer(fail)
	front.run("api", n.serveAPI)
	n.log.Info().Str("api", n.listener.Addr().String()).Str("sandbox", n.sandbox.Level().String()).Msg("node is up")

	<-ctx.Done()
	cause := context.Cause(ctx)
	n.log.Info().Msg("node is stopping")
	err := errors.Join(n.drain(), front.end(), work.end(), ground.end(), n.Close())
	if cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	n.log.Info().Msg("node has stopped")
	return err
}

// serveAPI serves once this node has a state to answer by. Until then callers wait
// in the listener's backlog: "unknown token" would be a lie.
func (n *Node) serveAPI(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.cluster.Ready():
		return n.api.Run(ctx)
	}
}

// drain turns new work away and waits for the calls in flight.
func (n *Node) drain() error {
	n.draining.Store(true)
	n.api.Drain()
	n.link.Drain(true)
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	defer cancel()
	if err := n.exec.Drain(ctx); err != nil {
		// Stopping goes on: the calls that are left are ended with their instances.
		n.log.Warn().Err(err).Msg("calls were still running at the end of the drain timeout")
	}
	return nil
}

// dialLink opens a connection of the peer link.
func (n *Node) dialLink(ctx context.Context, node state.NodeID) (net.Conn, error) {
	return n.cluster.Dial(ctx, node, linkProto)
}

// errNoPeer is a connection of the peer link whose other end is no member.
var errNoPeer = errors.New("connection is not from a member")

// peerOf tells which node is at the other end of a connection to this node.
func peerOf(conn net.Conn) (state.NodeID, error) {
	id, ok := group.PeerOf(conn)
	if !ok {
		return "", errNoPeer
	}
	return state.NodeID(id), nil
}
