package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

func TestRolesGrowWithTheCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	w.settle(1, 0)
	for _, step := range []struct{ voters, standbys int }{{1, 1}, {3, 0}, {3, 1}, {3, 2}, {3, 2}, {5, 2}} {
		w.add().start()
		w.settle(step.voters, step.standbys)
	}
	// An operator removes nodes, and the vote goes back in a pair.
	for range 2 {
		leader := w.leader()
		gone := w.others(leader)[0]
		w.forget(gone.id)
		gone.kill()
		w.nodes = w.others(gone)
	}
	w.settle(3, 2)
}

func TestDemotedVoterComesBackByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, nil)
	w.settle(3, 1)
	var voter *node
	for _, nd := range w.others(w.leader()) {
		if w.leader().group.RoleOf(nd.id) == Voter {
			voter = nd
		}
	}
	voter.kill()
	eventually(t, time.Minute, "the silent voter to be replaced", func() error {
		voters := 0
		for _, m := range w.leader().group.Members() {
			if m.Role == Voter && m.ID != voter.id {
				voters++
			}
		}
		if role := w.leader().group.RoleOf(voter.id); role != Standby || voters != 3 {
			return fmt.Errorf("it is a %v beside %d voters", role, voters)
		}
		return nil
	})
	voter.start()
	w.propose("back=1")
	eventually(t, time.Minute, "the old voter's state", func() error {
		if got := voter.fsm.get("back"); got != "1" {
			return fmt.Errorf("back=%q", got)
		}
		return nil
	})
}

func TestAvoidedLeaderHandsOverAndLosesItsVote(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, nil)
	w.settle(3, 1)
	old := w.leader()
	w.mu.Lock()
	for i := range w.known {
		w.known[i].Avoid = w.known[i].ID == old.id
	}
	w.mu.Unlock()
	eventually(t, time.Minute, "another leader and voter", func() error {
		leader := w.leader()
		if role := leader.group.RoleOf(old.id); leader == old || role == Voter {
			return fmt.Errorf("%s leads, %s is a %v", leader.id, old.id, role)
		}
		return nil
	})
}

func TestUnreachableNodeIsNotAdded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	w.add() // never started, and first in line
	good := w.add()
	good.start()
	eventually(t, time.Minute, "the node that can be reached", func() error {
		if role := w.leader().group.RoleOf(good.id); role != Standby {
			return fmt.Errorf("it is a %v", role)
		}
		return nil
	})
	if role := w.leader().group.RoleOf("node-2"); role != Observer {
		t.Errorf("a node that never ran is a %v", role)
	}
}

// TestUnknownServersChangeNothing starts a leader whose owner has no list yet.
func TestUnknownServersChangeNothing(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	g := w.leader().group
	g.cfg.Servers = func() []Server { return nil }
	m := &manager{g: g, ctx: t.Context(), probe: newProber(g)}
	state := &autopilot.State{Leader: raft.ServerID(g.cfg.ID)}
	if changes := m.CalculatePromotionsAndDemotions(nil, state); len(changes.Demotions)+len(changes.Promotions) != 0 {
		t.Errorf("changes %+v", changes)
	}
	stale := &autopilot.FailedServers{StaleNonVoters: []raft.ServerID{"x"}, StaleVoters: []raft.ServerID{"y"}}
	if diff := cmp.Diff(&autopilot.FailedServers{}, m.FilterFailedServerRemovals(nil, nil, stale)); diff != "" {
		t.Error(diff)
	}
	g.cfg.Servers = w.servers
	want := &autopilot.FailedServers{StaleNonVoters: []raft.ServerID{"x"}}
	if diff := cmp.Diff(want, m.FilterFailedServerRemovals(nil, nil, stale)); diff != "" {
		t.Error(diff)
	}
}

func TestProberTellsSilenceFromHealth(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	w.propose("a=1")
	leader := w.leader()
	dead := w.others(leader)[0]
	p := newProber(leader.group)
	defer p.close()
	ask := func() map[raft.ServerID]*autopilot.ServerStats {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return p.askAll(ctx)
	}
	eventually(t, time.Minute, "health of all", func() error {
		for id, s := range ask() {
			if s.LastContact < 0 || s.LastIndex == 0 || s.LastTerm == 0 {
				return fmt.Errorf("%s: %+v", id, s)
			}
		}
		return nil
	})
	dead.kill()
	if s := ask()[raft.ServerID(dead.id)]; s.LastContact >= 0 {
		t.Errorf("a dead member answered: %+v", s)
	}
	if s := p.silence(dead.id); s <= 0 || p.silence(leader.id) != 0 {
		t.Errorf("silent for %v, the leader itself for %v", s, p.silence(leader.id))
	}
	m := &manager{g: leader.group, ctx: t.Context(), probe: p}
	alive := w.others(leader)[1]
	if err := m.checkMajority(t.Context(), alive.id, false); err == nil {
		t.Error("the last but one live voter of three may go")
	}
	if err := m.checkMajority(t.Context(), dead.id, false); err != nil {
		t.Errorf("the dead voter may not go: %v", err)
	}
	if s := p.silence("new"); s != 0 {
		t.Errorf("a member that was never asked is silent for %v", s)
	}
	p.attend(nil)
	if s := p.silence(dead.id); s != 0 {
		t.Errorf("a member that left and may return is silent for %v", s)
	}
	if _, err := p.ask(t.Context(), "nobody"); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("asking nobody: %v", err)
	}
}

// TestSlowHandshakeOutlivesTheQuestion: each question is given up before a
// connection stands, and still one dial is all it takes.
func TestSlowHandshakeOutlivesTheQuestion(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server := newTestMux(t, ca, "s", nil)
	l := listen(t, server, statProto("test"), MembersOnly)
	go func() { // ends when the mux closes
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = c.Write(health{lastIndex: 7}.encode())
		}
	}()
	ready := make(chan struct{})
	var dials atomic.Int32
	g := &Group{}
	g.cfg.Name, g.cfg.ID, g.cfg.Timings = "test", "c", DefaultTimings()
	g.cfg.Timings.Dial = time.Minute
	g.cfg.Mux = newTestMux(t, ca, "c", func(c *MuxConfig) {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			dials.Add(1)
			<-ready
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	})
	g.addresses = &addresses{servers: func() []Server {
		return []Server{{ID: "s", Addr: server.Addr().String()}}
	}}
	p := newProber(g)
	defer p.close()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if _, err := p.ask(ctx, "s"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("question without a connection: %v", err)
		}
		cancel()
	}
	close(ready)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if h, err := p.ask(ctx, "s"); err != nil || h.lastIndex != 7 {
		t.Errorf("answer %+v, %v", h, err)
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("dialled %d times", n)
	}
}
