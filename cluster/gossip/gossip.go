package gossip

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/logadapt"
	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
)

const (
	// callsPerRound bounds how many absent members are called in one round.
	callsPerRound = 3
	// firstRejoin is the wait after the first round of calls; it doubles up to
	// Timings.Rejoin, and starts anew when somebody goes.
	firstRejoin = time.Second
	// broadcastsMax bounds the queue of changes to be passed on; older ones are
	// dropped, which push/pull makes good.
	broadcastsMax = 4096
)

// Peer is what gossip says about a node.
type Peer struct {
	ID      state.NodeID
	Boot    uint64
	Meta    *clusterpb.GossipMeta // Not to be changed.
	Address string                // Gossip address, host:port.
	Alive   bool
	Since   time.Time // When Alive last changed, by this process's clock.
}

// Gossip is a running memberlist. It is safe for concurrent use.
type Gossip struct {
	cfg   Config
	log   zerolog.Logger
	list  *memberlist.Memberlist
	queue *memberlist.TransmitLimitedQueue
	warm  *warmSets
	// address is what others are told; it does not change.
	address string
	// signal wakes Run; capacity 1, a wake-up that finds it full is not lost.
	signal chan struct{}
	// stopDial ends calls in flight.
	stopDial context.CancelFunc

	// generation counts changes of peers.
	generation atomic.Uint64
	// living counts the peers that are alive; it is written under mu.
	living atomic.Int64

	mu          sync.Mutex
	meta        *clusterpb.GossipMeta
	metaChanged bool
	peers       map[state.NodeID]Peer
	changed     bool

	closeOnce sync.Once
}

// New binds the gossip port and is reachable from then on; Run makes it look for
// others. The caller ends it with Close, or with Leave before.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dialCtx, stopDial := context.WithCancel(context.Background())
	g := &Gossip{
		cfg:      cfg,
		log:      cfg.Logger.With().Str("component", "gossip").Logger(),
		warm:     newWarmSets(cfg.ID, cfg.Boot),
		signal:   make(chan struct{}, 1),
		stopDial: stopDial,
		meta:     proto.CloneOf(cfg.Meta),
		peers:    map[state.NodeID]Peer{},
	}
	g.queue = newQueue(g.alive)
	mlConfig, err := g.memberlistConfig(dialCtx)
	if err != nil {
		stopDial()
		return nil, fmt.Errorf("start gossip on %s: %w", cfg.Bind, err)
	}
	if g.list, err = memberlist.Create(mlConfig); err != nil {
		stopDial()
		_ = mlConfig.Transport.Shutdown()
		return nil, fmt.Errorf("start gossip on %s: %w", cfg.Bind, err)
	}
	// Taken once: memberlist goes on writing to the node that it returns.
	g.address = g.list.LocalNode().FullAddress().Addr
	return g, nil
}

// newQueue returns the queue of changes to pass on, each sent as often as copies
// says. memberlist sends RetransmitMult times the rounded-up decimal logarithm of
// the number of nodes; it is told a number with the logarithm that we want.
func newQueue(nodes func() int) *memberlist.TransmitLimitedQueue {
	return &memberlist.TransmitLimitedQueue{RetransmitMult: 2, NumNodes: func() int {
		pretended := 5
		for range copies(nodes())/2 - 1 {
			pretended *= 10
		}
		return pretended
	}}
}

// copies returns how often each node sends a change, an even number. As many
// reach each node on average, so e^-copies of the nodes get none: with ln(nodes)
// more than 7, one change in 1,000 misses somebody, who then waits for push/pull.
// A tenth comes on top for lost packets.
func copies(nodes int) int {
	half := (math.Log(float64(max(nodes, 1))) + 7) * 1.1 / 2
	// Beyond 18, which is enough for 10,000 nodes, newQueue's number would be too large.
	return 2 * min(9, int(math.Ceil(half)))
}

func (g *Gossip) delegate() delegate { return delegate{g} }

// memberlistConfig fills memberlist's configuration and binds the port. It is one
// long straight line.
func (g *Gossip) memberlistConfig(dialCtx context.Context) (*memberlist.Config, error) {
	host, portText, err := net.SplitHostPort(g.cfg.Bind)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number", portText)
	}
	c := memberlist.DefaultLANConfig()
	c.Logger = logadapt.NewStandard(g.log, "memberlist")
	listen := g.cfg.listen
	if listen == nil {
		listen = listenNet
	}
	transport, bound, err := listen(dialCtx, host, port, c.Logger)
	if err != nil {
		return nil, err
	}
	c.Transport = transport
	c.BindAddr, c.BindPort = host, bound
	c.AdvertisePort = c.BindPort
	if g.cfg.Advertise != "" {
		if c.AdvertiseAddr, c.AdvertisePort, err = resolveAdvertise(g.cfg.Advertise, c.BindPort); err != nil {
			_ = transport.Shutdown()
			return nil, err
		}
	}
	c.Name = nodeName(g.cfg.ID, g.cfg.Boot)
	c.Label = string(g.cfg.Cluster)
	c.SecretKey = g.cfg.Key
	// Names hold a boot number, which a caller cannot know, so they are not demanded
	// of a join; NotifyAlive checks them instead.
	// Small encrypted messages gain nothing, and what is not compressed needs no
	// trust in a decompressor.
	c.EnableCompression = false
	c.Delegate, c.Events, c.Alive = g.delegate(), g.delegate(), g.delegate()
	t := g.cfg.Timings
	c.ProbeInterval, c.ProbeTimeout = t.Probe, t.ProbeTimeout
	c.GossipInterval, c.PushPullInterval = t.Gossip, t.PushPull
	c.GossipToTheDeadTime = t.PushPull
	c.TCPTimeout = t.TCP
	// With memberlist's 4, news of membership is sent 8 times below 100 nodes, which
	// leaves somebody out so often that 99 nodes took minutes to find together.
	c.RetransmitMult = 6
	return c, nil
}

// resolveAdvertise turns an address with a host name into an IP and a port; port
// 0 takes the bound one.
func resolveAdvertise(address string, bound int) (string, int, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return "", 0, fmt.Errorf("resolve advertised address: %w", err)
	}
	if addr.IP == nil || addr.IP.IsUnspecified() {
		return "", 0, fmt.Errorf("advertised address %s names no host", address)
	}
	if addr.Port == 0 {
		addr.Port = bound
	}
	return addr.IP.String(), addr.Port, nil
}

// Address returns the address that others are told, host:port.
func (g *Gossip) Address() string { return g.address }

// Meta returns a copy of what others are told about this node.
func (g *Gossip) Meta() *clusterpb.GossipMeta {
	g.mu.Lock()
	defer g.mu.Unlock()
	return proto.CloneOf(g.meta)
}

// SetMeta changes what others are told; they learn it within a few rounds.
func (g *Gossip) SetMeta(meta *clusterpb.GossipMeta) {
	g.mu.Lock()
	if !proto.Equal(g.meta, meta) {
		g.meta, g.metaChanged = proto.CloneOf(meta), true
	}
	g.mu.Unlock()
	g.wake()
}

// AnnounceWarm tells the others that a function is warm here, or no longer.
func (g *Gossip) AnnounceWarm(function uint64, warm bool) {
	if m := g.warm.announce(function, warm); m != nil {
		g.broadcast(m)
	}
}

// Peers returns every other node that gossip has heard of, by id.
func (g *Gossip) Peers() map[state.NodeID]Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.peers)
}

// Peer returns what gossip says about one node.
func (g *Gossip) Peer(id state.NodeID) (Peer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.peers[id]
	return p, ok
}

// Generation changes whenever Peers does.
func (g *Gossip) Generation() uint64 { return g.generation.Load() }

// Run passes changes on and calls absent members until ctx ends. It does not end
// gossip itself: the node may still want to leave.
func (g *Gossip) Run(ctx context.Context) error {
	wait := firstRejoin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.signal:
			if g.pass() {
				wait = firstRejoin
			}
		case <-timer.C:
			g.forgetRemoved()
			g.rejoin(ctx)
			wait = min(2*wait, g.cfg.Timings.Rejoin)
			// Half the wait is random, so that nodes that lost each other at the same
			// moment don't call at the same moments.
			timer.Reset(wait/2 + rand.N(wait/2+1))
		}
	}
}

// pass hands out what changed and reports whether peers did.
func (g *Gossip) pass() bool {
	g.mu.Lock()
	peers, meta := g.changed, g.metaChanged
	g.changed, g.metaChanged = false, false
	g.mu.Unlock()
	if meta {
		// The timeout only bounds the wait for the broadcast; it goes on being sent.
		if err := g.list.UpdateNode(g.cfg.Timings.Gossip); err != nil {
			g.log.Debug().Err(err).Msg("metadata not yet broadcast")
		}
	}
	if peers && g.cfg.OnPeers != nil {
		g.cfg.OnPeers()
	}
	if g.cfg.OnWarm != nil {
		g.warm.drain(g.cfg.OnWarm)
	} else {
		g.warm.drain(func(state.NodeID, uint64, bool) {})
	}
	return peers
}

// rejoin calls a few of the known members that are not seen alive.
func (g *Gossip) rejoin(ctx context.Context) {
	peers := g.Peers()
	var absent []string
	for id, addresses := range g.cfg.Known() {
		if p, ok := peers[id]; id != g.cfg.ID && (!ok || !p.Alive) {
			absent = append(absent, addresses...)
			if ok {
				absent = append(absent, p.Address)
			}
		}
	}
	slices.Sort(absent)
	absent = slices.Compact(absent)
	rand.Shuffle(len(absent), func(i, j int) { absent[i], absent[j] = absent[j], absent[i] })
	for _, address := range absent[:min(callsPerRound, len(absent))] {
		if ctx.Err() != nil {
			return
		}
		if _, err := g.list.Join([]string{address}); err != nil {
			g.log.Debug().Err(err).Str("peer", address).Msg("absent member does not answer")
		}
	}
}

// forgetRemoved drops peers that are no longer admitted.
func (g *Gossip) forgetRemoved() {
	for id := range g.Peers() {
		if g.cfg.Admit(id) == nil {
			continue
		}
		g.mu.Lock()
		g.countLocked(g.peers[id], Peer{})
		delete(g.peers, id)
		g.changed = true
		g.generation.Add(1)
		g.mu.Unlock()
		g.warm.forget(id)
		g.wake()
	}
}

// note takes what memberlist says about one boot of a node. The highest boot of
// an id counts; what is said of earlier ones is old news.
func (g *Gossip) note(p Peer) {
	if p.ID == g.cfg.ID {
		return
	}
	g.mu.Lock()
	old, known := g.peers[p.ID]
	if known && (p.Boot < old.Boot || (p.Boot > old.Boot && !p.Alive)) {
		g.mu.Unlock()
		return
	}
	p.Since = time.Now()
	if known && old.Alive == p.Alive && old.Boot == p.Boot {
		p.Since = old.Since
	}
	g.peers[p.ID] = p
	g.countLocked(old, p)
	g.changed = true
	g.generation.Add(1)
	g.mu.Unlock()
	if p.Alive {
		g.warm.restart(p.ID, p.Boot)
	}
	if !known || old.Alive != p.Alive {
		g.log.Info().Str("peer", string(p.ID)).Bool("alive", p.Alive).Msg("peer changed")
	}
	g.wake()
}

// broadcast queues a change for passing on.
func (g *Gossip) broadcast(m *clusterpb.GossipWarm) {
	data, err := proto.Marshal(m)
	if err != nil {
		return // Only invalid UTF-8 in the id could do this; it was checked on entry.
	}
	if g.queue.NumQueued() >= broadcastsMax {
		g.queue.Prune(broadcastsMax / 2)
	}
	g.queue.QueueBroadcast(warmBroadcast(data))
}

// alive returns the number of living nodes, this one included. It is asked for
// every packet, so it is counted as peers change.
func (g *Gossip) alive() int { return 1 + int(g.living.Load()) }

// countLocked updates living after p replaced old; a zero Peer is none.
func (g *Gossip) countLocked(old, p Peer) {
	if old.Alive != p.Alive {
		if p.Alive {
			g.living.Add(1)
		} else {
			g.living.Add(-1)
		}
	}
}

// wake makes Run look for changes.
func (g *Gossip) wake() {
	select {
	case g.signal <- struct{}{}:
	default:
	}
}

// Leave tells the others that this node goes on purpose, within the timeout.
func (g *Gossip) Leave(timeout time.Duration) error {
	if err := g.list.Leave(timeout); err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// Close frees the port. It is idempotent.
func (g *Gossip) Close() error {
	var err error
	g.closeOnce.Do(func() {
		g.stopDial()
		if serr := g.list.Shutdown(); serr != nil {
			err = fmt.Errorf("close gossip: %w", serr)
		}
	})
	return err
}
