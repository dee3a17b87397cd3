package group

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/covey-dev/covey/internal/logadapt"
)

// maxTrailing is how many entries a healthy member may be behind.
const maxTrailing = 250

// manager keeps the right nodes in the right roles for one leadership. Autopilot
// watches health, promotes, demotes and removes what the owner no longer knows,
// by the decisions of votes.go; it never adds, so standbys are kept by a loop
// here.
type manager struct {
	g     *Group
	ctx   context.Context // the leadership; bounds changes that autopilot makes
	pilot *autopilot.Autopilot
	probe *prober
	turn  int // which observer is asked first, so that one that fails does not block others
}

var (
	_ autopilot.ApplicationIntegration = (*manager)(nil)
	_ autopilot.Promoter               = (*manager)(nil)
	_ autopilot.Raft                   = (*pilotRaft)(nil)
)

// manageMembers is leader work; it returns when the leadership has ended and
// autopilot with it.
func (g *Group) manageMembers(ctx context.Context) {
	t := g.cfg.Timings
	m := &manager{g: g, ctx: ctx, probe: newProber(g)}
	defer m.probe.close()
	m.pilot = autopilot.New(&pilotRaft{Raft: g.raft, m: m}, m,
		autopilot.WithPromoter(m),
		autopilot.WithUpdateInterval(t.Health),
		autopilot.WithReconcileInterval(t.Reconcile),
		autopilot.WithLogger(logadapt.NewHCLog(g.log, "")))
	m.pilot.Start(ctx)
	defer func() { <-m.pilot.Stop() }()

	tick := time.NewTicker(t.Reconcile)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.keepStandbys()
		case <-ctx.Done():
			return
		}
	}
}

// change bounds one change of roles, hooks included.
func (m *manager) change() (context.Context, context.CancelFunc) {
	return context.WithTimeout(m.ctx, 3*m.g.cfg.Timings.RPC)
}

// keepStandbys makes at most one change: an address, a removal or an addition.
func (m *manager) keepStandbys() {
	all := m.candidates(m.pilot.GetState())
	if all == nil {
		return
	}
	ctx, cancel := m.change()
	defer cancel()
	if m.updateAddress(ctx, all) {
		return
	}
	for i := range all {
		all[i].healthy = all[i].healthy || all[i].role == Observer
	}
	if remove, add := planStandbys(all, m.g.cfg.Timings.Replace); remove == "" && add == "" {
		return // nothing to do, even if every observer is within reach
	}
	m.reach(ctx, all)
	remove, add := planStandbys(all, m.g.cfg.Timings.Replace)
	if remove != "" {
		m.report(m.g.Remove(ctx, remove), remove)
	}
	if add != "" {
		m.report(m.g.AddStandby(ctx, m.g.server(add)), add)
	}
}

// reachMax is how many observers are asked per round.
const reachMax = 3

// reach marks the observers that answer, out of a few. It is the next ones' turn
// in the next round.
func (m *manager) reach(ctx context.Context, all []candidate) {
	var observers []int
	for i, c := range all {
		if c.role == Observer {
			all[i].healthy = false
			if !c.Avoid {
				observers = append(observers, i)
			}
		}
	}
	for n := range min(reachMax, len(observers)) {
		c := &all[observers[(m.turn+n)%len(observers)]]
		pingCtx, cancel := context.WithTimeout(ctx, m.g.cfg.Timings.Dial)
		c.healthy = m.g.cfg.Mux.Ping(pingCtx, c.Addr, c.ID) == nil
		cancel()
	}
	m.turn++
}

// report logs a change that did not happen. The end of the leadership is no news.
func (m *manager) report(err error, id NodeID) {
	if err != nil && m.ctx.Err() == nil {
		m.g.log.Warn().Err(err).Str("peer", string(id)).Msg("role not changed")
	}
}

// updateAddress records the new address of a member that moved. Nobody needs it
// while the owner's list is there; a member that restarts without a quorum does.
func (m *manager) updateAddress(ctx context.Context, all []candidate) bool {
	for _, member := range m.g.Members() {
		for _, c := range all {
			if c.ID != member.ID || c.Addr == member.Addr || !c.known || c.Addr == "" {
				continue
			}
			if member.Role == Voter {
				m.report(m.g.AddVoter(ctx, c.Server), c.ID)
			} else {
				m.report(m.g.AddStandby(ctx, c.Server), c.ID)
			}
			return true
		}
	}
	return false
}

// candidates joins what the owner knows with what autopilot sees. It is nil while
// either knows nothing, so that nothing is decided then.
func (m *manager) candidates(state *autopilot.State) []candidate {
	servers := m.g.cfg.Servers()
	if len(servers) == 0 || state == nil || state.Leader == "" {
		return nil
	}
	roles := make(map[NodeID]Role)
	for _, member := range m.g.Members() {
		roles[member.ID] = member.Role
	}
	all := make([]candidate, 0, len(servers)+len(roles))
	add := func(s Server, known bool) {
		c := candidate{Server: s, role: roles[s.ID], known: known, leader: s.ID == m.g.cfg.ID}
		if seen, ok := state.Servers[raft.ServerID(s.ID)]; ok {
			c.healthy = seen.Health.Healthy
			c.stable = seen.Health.IsStable(time.Now(), state.ServerStabilizationTime(m.AutopilotConfig()))
			c.silent = m.probe.silence(s.ID)
		}
		all = append(all, c)
		delete(roles, s.ID)
	}
	for _, s := range servers {
		add(s, true)
	}
	for id := range roles {
		add(Server{ID: id}, false)
	}
	return all
}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (m *manager) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers:      true,
		LastContactThreshold:    2 * m.g.cfg.Timings.Heartbeat,
		MaxTrailingLogs:         maxTrailing,
		ServerStabilizationTime: m.g.cfg.Timings.Stable,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (m *manager) NotifyState(*autopilot.State) {}

// FetchServerStats implements autopilot.ApplicationIntegration.
func (m *manager) FetchServerStats(ctx context.Context, _ map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	return m.probe.askAll(ctx)
}

// KnownServers implements autopilot.ApplicationIntegration: the members among the
// owner's servers. All of them count as alive, because only the leader's own
// contact may say otherwise.
func (m *manager) KnownServers() map[raft.ServerID]*autopilot.Server {
	known := make(map[raft.ServerID]*autopilot.Server)
	add := func(s Server) {
		known[raft.ServerID(s.ID)] = &autopilot.Server{
			ID:          raft.ServerID(s.ID),
			Name:        string(s.ID),
			Address:     raft.ServerAddress(s.Addr),
			NodeStatus:  autopilot.NodeAlive,
			RaftVersion: raft.ProtocolVersionMax,
			IsLeader:    s.ID == m.g.cfg.ID,
			NodeType:    autopilot.NodeVoter,
		}
	}
	for _, s := range m.g.cfg.Servers() {
		add(s)
	}
	add(Server{ID: m.g.cfg.ID, Addr: m.g.cfg.Advertise})
	return known
}

// RemoveFailedServer implements autopilot.ApplicationIntegration. The filter below
// lets no failed server through.
func (m *manager) RemoveFailedServer(*autopilot.Server) {}

// GetServerExt implements autopilot.Promoter.
func (m *manager) GetServerExt(*autopilot.Config, *autopilot.ServerState) any { return nil }

// GetStateExt implements autopilot.Promoter.
func (m *manager) GetStateExt(*autopilot.Config, *autopilot.State) any { return nil }

// GetNodeTypes implements autopilot.Promoter.
func (m *manager) GetNodeTypes(_ *autopilot.Config, s *autopilot.State) map[raft.ServerID]autopilot.NodeType {
	types := make(map[raft.ServerID]autopilot.NodeType, len(s.Servers))
	for id := range s.Servers {
		types[id] = autopilot.NodeVoter
	}
	return types
}

// IsPotentialVoter implements autopilot.Promoter.
func (m *manager) IsPotentialVoter(t autopilot.NodeType) bool { return t == autopilot.NodeVoter }

// CalculatePromotionsAndDemotions implements autopilot.Promoter.
func (m *manager) CalculatePromotionsAndDemotions(_ *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	all := m.candidates(s)
	promote, demote := planVotes(all, m.g.cfg.Timings.Replace)
	return autopilot.RaftChanges{
		Promotions: serverIDs(promote),
		Demotions:  serverIDs(demote),
		Leader:     raft.ServerID(successor(all)),
	}
}

// FilterFailedServerRemovals implements autopilot.Promoter. Only servers that the
// owner removed go, and only without a vote: planVotes takes it first. Silence
// alone removes nobody.
func (m *manager) FilterFailedServerRemovals(_ *autopilot.Config, _ *autopilot.State, f *autopilot.FailedServers) *autopilot.FailedServers {
	if len(m.g.cfg.Servers()) == 0 {
		return &autopilot.FailedServers{}
	}
	return &autopilot.FailedServers{StaleNonVoters: f.StaleNonVoters}
}

// checkMajority asks all voters again, right before one gets or loses its vote,
// because the plan was made from what was heard a while ago: a voter may have died
// since. The change must leave a live majority.
func (m *manager) checkMajority(ctx context.Context, id NodeID, votes bool) error {
	ctx, cancel := context.WithTimeout(ctx, m.g.cfg.Timings.Dial)
	defer cancel()
	heard := m.probe.askAll(ctx)
	var voters []NodeID
	for _, member := range m.g.Members() {
		if member.Role == Voter && member.ID != id {
			voters = append(voters, member.ID)
		}
	}
	if votes {
		voters = append(voters, id)
	}
	alive := func(id NodeID) bool {
		stats, ok := heard[raft.ServerID(id)]
		return ok && stats.LastContact >= 0
	}
	if !safe(voters, alive) {
		return fmt.Errorf("change the vote of %s: too few of voters %v answer", id, voters)
	}
	return nil
}

// serverIDs speaks Raft's names.
func serverIDs(ids []NodeID) []raft.ServerID {
	out := make([]raft.ServerID, 0, len(ids))
	for _, id := range ids {
		out = append(out, raft.ServerID(id))
	}
	return out
}

// pilotRaft leads autopilot's changes through the group's own methods, with their
// hooks and their order.
type pilotRaft struct {
	*raft.Raft
	m *manager
}

// AddVoter implements autopilot.Raft.
func (p *pilotRaft) AddVoter(id raft.ServerID, _ raft.ServerAddress, _ uint64, _ time.Duration) raft.IndexFuture {
	ctx, cancel := p.m.change()
	defer cancel()
	if err := p.m.checkMajority(ctx, NodeID(id), true); err != nil {
		return ended{err}
	}
	return ended{p.m.g.AddVoter(ctx, p.m.g.server(NodeID(id)))}
}

// DemoteVoter implements autopilot.Raft.
func (p *pilotRaft) DemoteVoter(id raft.ServerID, _ uint64, _ time.Duration) raft.IndexFuture {
	ctx, cancel := p.m.change()
	defer cancel()
	if err := p.m.checkMajority(ctx, NodeID(id), false); err != nil {
		return ended{err}
	}
	return ended{p.m.g.Demote(ctx, NodeID(id))}
}

// RemoveServer implements autopilot.Raft.
func (p *pilotRaft) RemoveServer(id raft.ServerID, _ uint64, _ time.Duration) raft.IndexFuture {
	ctx, cancel := p.m.change()
	defer cancel()
	return ended{p.m.g.Remove(ctx, NodeID(id))}
}

// LeadershipTransferToServer implements autopilot.Raft.
func (p *pilotRaft) LeadershipTransferToServer(id raft.ServerID, _ raft.ServerAddress) raft.Future {
	ctx, cancel := p.m.change()
	defer cancel()
	return ended{p.m.g.TransferLeadership(ctx, NodeID(id))}
}

// ended is a future that is over.
type ended struct{ err error }

// Error implements raft.Future.
func (e ended) Error() error { return e.err }

// Index implements raft.IndexFuture; autopilot does not ask for it.
func (e ended) Index() uint64 { return 0 }
