package group

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is raft.NetworkTransport with another path for heartbeats.
//
// The library offers two. With its fast path a heartbeat is handled beside
// Raft's main loop: it changes term, state and leader while the main loop works
// with them, a race that can turn a term back. Without it heartbeats queue behind
// the main loop, which also waits for the disk: when the fsync of enough followers
// stalls longer than the leader's lease, the leader loses a lease that nobody
// contests and an election follows (TestHeartbeats shows both).
//
// So heartbeats queue here, and when the main loop does not take one in time, the
// transport vouches for it: it answers "yes, in this term you lead me" if that is
// what Raft's state says, and touches nothing. This is what the main loop would
// answer. It is true until the main loop grants a vote in a newer term, which it
// cannot do while it waits, and afterwards the term read here differs. A follower
// that was stalled marks its contact with the leader itself when its write ends,
// so it does not campaign either. Whether its disk ever comes back is for the
// watch to decide, not for an election.
type transport struct {
	*raft.NetworkTransport

	patience time.Duration
	onVouch  func()
	raft     atomic.Pointer[raftState]
	pipes    *pipelines
	rpcs     chan raft.RPC
	done     chan struct{}
	once     sync.Once
	pump     sync.WaitGroup
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

// raftState is what vouching reads of Raft. Each is an atomic or briefly locked
// read that never waits for the main loop.
type raftState interface {
	State() raft.RaftState
	CurrentTerm() uint64
	LeaderWithID() (raft.ServerAddress, raft.ServerID)
	LastIndex() uint64
}

// transportConfig holds what newTransport needs.
type transportConfig struct {
	stream    raft.StreamLayer
	addresses raft.ServerAddressProvider
	logger    hclog.Logger
	timings   Timings
	onVouch   func()
	patience  time.Duration // 0 means a quarter of the lease
}

// newTransport starts serving; Raft's main loop may come later.
func newTransport(cfg transportConfig) *transport {
	if cfg.patience == 0 {
		// Well under the lease, well over what a healthy main loop takes.
		cfg.patience = cfg.timings.Lease / 4
	}
	t := &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			ServerAddressProvider: cfg.addresses,
			Logger:                cfg.logger,
			Stream:                cfg.stream,
			// Heartbeat, replication, votes and one to spare.
			MaxPool: 4,
			Timeout: cfg.timings.RPC,
		}),
		patience: cfg.patience,
		onVouch:  cfg.onVouch,
		// Twice what the library itself waits for an answer.
		pipes: newPipelines(2*cfg.timings.RPC, cfg.timings.Heartbeat),
		rpcs:  make(chan raft.RPC),
		done:  make(chan struct{}),
	}
	t.NetworkTransport.SetHeartbeatHandler(t.heartbeat)
	t.pump.Go(t.forward)
	return t
}

// watch tells the transport whose state it may vouch for.
func (t *transport) watch(r raftState) { t.raft.Store(&r) }

// SetHeartbeatHandler implements raft.Transport. Raft offers its fast path here,
// and is not taken up on it.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return t.pipes.add(inner)
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// forward passes everything but heartbeats on to the main loop. It ends with Close.
func (t *transport) forward() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			select {
			case t.rpcs <- rpc:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

// heartbeat runs on the connection's goroutine and may block it.
func (t *transport) heartbeat(rpc raft.RPC) {
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case t.rpcs <- rpc:
		return
	case <-t.done:
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return
	case <-timer.C:
	}
	if t.vouch(rpc) {
		return
	}
	select {
	case t.rpcs <- rpc:
	case <-t.done:
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}

// vouch answers a heartbeat if it would change nothing.
func (t *transport) vouch(rpc raft.RPC) bool {
	r := t.raft.Load()
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if r == nil || !ok || !follows(*r, req) {
		return false
	}
	rpc.Respond(&raft.AppendEntriesResponse{
		RPCHeader: raft.RPCHeader{ProtocolVersion: req.ProtocolVersion},
		Term:      req.Term,
		LastLog:   (*r).LastIndex(),
		Success:   true,
	}, nil)
	if t.onVouch != nil {
		t.onVouch()
	}
	return true
}

// follows reports whether Raft follows the sender in the sender's term. The term
// is read last: Raft raises it before it votes, so an old leader is never vouched
// for after a vote against it.
func follows(r raftState, req *raft.AppendEntriesRequest) bool {
	_, leader := r.LeaderWithID()
	return leader != "" && string(leader) == string(req.ID) &&
		r.State() == raft.Follower && r.CurrentTerm() == req.Term
}

// Close implements raft.WithClose. It also closes pooled connections, which the
// library leaves to the garbage collector.
func (t *transport) Close() error {
	var err error
	t.once.Do(func() {
		close(t.done)
		t.pipes.close()
		err = t.NetworkTransport.Close()
		t.CloseStreams()
		t.pump.Wait()
	})
	return err
}
