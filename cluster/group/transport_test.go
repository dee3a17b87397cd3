package group

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// electionsAfterStalls stalls writes for a second, round by round, on the given
// nodes at once, and returns how many elections followed. The timings are the
// production ones.
func electionsAfterStalls(t *testing.T, rounds int, vouchAfter time.Duration, pick func(w *world, leader *node) []*node) uint64 {
	t.Helper()
	f := newFaults()
	w := newVoters(t, 3, func(c *Config) {
		f.tune(c)
		c.Timings = DefaultTimings()
		c.vouchAfter = vouchAfter
	})
	w.propose("a=0")
	before := w.leader().group.Stats().Term
	for range rounds {
		for _, nd := range pick(w, w.leader()) {
			f.of(nd).stall(time.Second)
		}
		w.propose("a=1")
	}
	w.agree(w.nodes...)
	return w.leader().group.Stats().Term - before
}

// TestHeartbeats decides which path heartbeats take; see type transport.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	followers := func(w *world, leader *node) []*node { return w.others(leader) }
	tests := []struct {
		name       string
		vouchAfter time.Duration
		pick       func(*world, *node) []*node
		elections  bool
	}{
		{"one follower", 0, func(w *world, l *node) []*node { return w.others(l)[:1] }, false},
		{"leader", 0, func(_ *world, l *node) []*node { return []*node{l} }, false},
		{"both followers", 0, followers, false},
		{"all", 0, func(w *world, _ *node) []*node { return w.nodes }, false},
		// The plain queue, as if the library's fast path were merely switched off.
		{"both followers without vouching", time.Hour, followers, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A starved machine holds elections of its own now and then, the stall
			// itself every time, so one round without is enough.
			var n uint64
			for range 4 {
				n = electionsAfterStalls(t, times(1, 20), tt.vouchAfter, tt.pick)
				if (n > 0) == tt.elections {
					return
				}
			}
			t.Errorf("%d elections after one-second stalls, want some: %v", n, tt.elections)
		})
	}
}

// pretender is a Raft in a chosen state.
type pretender struct {
	state  raft.RaftState
	term   uint64
	leader raft.ServerID
}

func (p pretender) State() raft.RaftState { return p.state }
func (p pretender) CurrentTerm() uint64   { return p.term }
func (p pretender) LastIndex() uint64     { return 7 }
func (p pretender) LeaderWithID() (raft.ServerAddress, raft.ServerID) {
	return "", p.leader
}

func TestTransportVouchesForTrueFollowersOnly(t *testing.T) {
	t.Parallel()
	heartbeat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte("boss")}, Term: 5}
	tests := []struct {
		name string
		raft raftState
		cmd  any
		want bool
	}{
		{"follower of the sender", pretender{raft.Follower, 5, "boss"}, heartbeat, true},
		{"newer term here", pretender{raft.Follower, 6, "boss"}, heartbeat, false},
		{"older term here", pretender{raft.Follower, 4, "boss"}, heartbeat, false},
		{"candidate", pretender{raft.Candidate, 5, "boss"}, heartbeat, false},
		{"leader", pretender{raft.Leader, 5, "boss"}, heartbeat, false},
		{"shut down", pretender{raft.Shutdown, 5, "boss"}, heartbeat, false},
		{"follower of another", pretender{raft.Follower, 5, "other"}, heartbeat, false},
		{"follower of nobody", pretender{raft.Follower, 5, ""}, &raft.AppendEntriesRequest{Term: 5}, false},
		{"not a heartbeat", pretender{raft.Follower, 5, "boss"}, &raft.RequestVoteRequest{Term: 5}, false},
		{"before raft is there", nil, heartbeat, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var tr transport
			if tt.raft != nil {
				tr.watch(tt.raft)
			}
			answer := make(chan raft.RPCResponse, 1)
			if got := tr.vouch(raft.RPC{Command: tt.cmd, RespChan: answer}); got != tt.want {
				t.Fatalf("vouched %v, want %v", got, tt.want)
			}
			if !tt.want {
				return
			}
			resp := (<-answer).Response.(*raft.AppendEntriesResponse)
			if !resp.Success || resp.Term != 5 || resp.LastLog != 7 {
				t.Errorf("answered %+v", resp)
			}
		})
	}
}

func TestDialIntoPartitionIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &Mux{cfg: MuxConfig{
			HandshakeTimeout: time.Hour,
			Dial:             func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
		}}
		ctx, cancel := context.WithCancel(t.Context())
		s := &stream{mux: m, dialMax: 2 * time.Second, ctx: ctx, cancel: cancel}
		start := time.Now()
		if _, err := s.Dial(joinAddr("n", "x:1"), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
		go func() { time.Sleep(time.Second); cancel() }() // the group closes
		if _, err := s.Dial("x:1", 0); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}
