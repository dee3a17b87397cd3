package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// swarm is many members with the real configuration on a network in memory. In a
// synctest bubble its time is virtual: it does not depend on the machine.
type swarm struct {
	net     *network
	members []*Gossip
	ports   []*port
	stop    context.CancelFunc
	running sync.WaitGroup
	// suspects and deaths count what members said of others.
	suspects, deaths atomic.Int64
	next             atomic.Uint64 // The number of the last change.

	mu      sync.Mutex
	changes map[uint64]*change
}

// change is one change of a warm set on its way through the swarm.
type change struct {
	start time.Time
	took  []time.Duration // One per other member that knows, in order.
}

// swarmID returns an id as long as a real one.
func swarmID(i int) state.NodeID {
	return state.NodeID(fmt.Sprintf("6ba7b810-9dad-41d1-80b4-%012d", i))
}

func swarmAddress(i int) string { return fmt.Sprintf("10.0.%d.%d:7072", i/250, i%250+1) }

// newSwarm starts n members that know each other.
func newSwarm(t testing.TB, n int, network *network, timings Timings) *swarm {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &swarm{net: network, stop: cancel, changes: map[uint64]*change{}}
	for i := range n {
		g, err := New(s.config(i, timings))
		if err != nil {
			t.Fatal(err)
		}
		s.members = append(s.members, g)
		s.ports = append(s.ports, network.port(swarmAddress(i)))
		s.running.Go(func() {
			if err := g.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	return s
}

func (s *swarm) config(i int, timings Timings) Config {
	id := swarmID(i)
	known := map[state.NodeID][]string{}
	for seed := range 3 {
		known[swarmID(seed)] = []string{swarmAddress(seed)}
	}
	return Config{
		ID: id, Boot: 1_764_000_000, Cluster: "0f0e0d0c-9dad-41d1-80b4-00c04fd430c8", Key: make([]byte, 32), Bind: swarmAddress(i),
		Meta: &clusterpb.GossipMeta{
			Name: fmt.Sprintf("node-%d", i), PeerAddress: fmt.Sprintf("10.0.%d.%d:7071", i/250, i%250+1),
			ApiAddress: fmt.Sprintf("10.0.%d.%d:7070", i/250, i%250+1),
			Runtimes:   []string{"go", "python", "nodejs", "lambda", "exec", "wasm"},
		},
		Admit:  func(state.NodeID) error { return nil },
		Known:  func() map[state.NodeID][]string { return known },
		OnWarm: s.learn, Timings: timings, Logger: zerolog.New(sayings{s}), listen: s.net.listen,
	}
}

// sayings counts what members log about each other.
type sayings struct{ s *swarm }

func (w sayings) Write(line []byte) (int, error) {
	switch {
	case bytes.Contains(line, []byte("Suspect ")):
		w.s.suspects.Add(1)
	case bytes.Contains(line, []byte(`"alive":false`)):
		w.s.deaths.Add(1)
	}
	return len(line), nil
}

// close ends the members and waits for what memberlist leaves running.
func (s *swarm) close() {
	s.stop()
	var closing sync.WaitGroup
	for _, g := range s.members {
		closing.Go(func() { _ = g.Close() })
	}
	closing.Wait()
	s.running.Wait()
}

// together says who does not see everybody.
func (s *swarm) together() error {
	for i, g := range s.members {
		if n := g.alive(); n != len(s.members) {
			return fmt.Errorf("member %d sees %d of %d", i, n, len(s.members))
		}
	}
	return nil
}

// announce changes function on member i's warm set and follows it.
func (s *swarm) announce(i int, function uint64) {
	s.mu.Lock()
	s.changes[function] = &change{start: time.Now()}
	s.mu.Unlock()
	s.members[i].AnnounceWarm(function, true)
}

func (s *swarm) learn(_ state.NodeID, function uint64, warm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.changes[function]; c != nil && warm {
		c.took = append(c.took, time.Since(c.start))
	}
}

// spread says which change is not known everywhere.
func (s *swarm) spread() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for function, c := range s.changes {
		if len(c.took) < len(s.members)-1 {
			return fmt.Errorf("%d of %d know change %d", len(c.took), len(s.members)-1, function)
		}
	}
	return nil
}

// forget starts a new count of changes.
func (s *swarm) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = map[uint64]*change{}
}

// times returns the medians over all changes of the time until a share of the
// others knew, the worst time until all knew, and how many are not known by all.
func (s *swarm) times() (half, most, all, worst time.Duration, missing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var halves, mosts, alls []time.Duration
	others := len(s.members) - 1
	at := func(c *change, share float64) time.Duration {
		return c.took[max(0, min(len(c.took)-1, int(float64(others)*share+0.999)-1))]
	}
	for _, c := range s.changes {
		if len(c.took) < others {
			missing++
			continue
		}
		halves, mosts, alls = append(halves, at(c, 0.5)), append(mosts, at(c, 0.99)), append(alls, at(c, 1))
	}
	if len(alls) == 0 {
		return 0, 0, 0, 0, missing
	}
	return median(halves), median(mosts), median(alls), slices.Max(alls), missing
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// bytes returns what all members have sent, and how much of it over streams.
func (s *swarm) bytes() (sent, stream int64) {
	for _, p := range s.ports {
		sent += p.sent.Load()
		stream += p.stream.Load()
	}
	return sent, stream
}

// starve keeps stopping members for up to longest until ctx ends, each after about
// three seconds of running, as on a machine whose processors are all taken.
func (s *swarm) starve(ctx context.Context, longest time.Duration) {
	for ctx.Err() == nil {
		for _, p := range s.ports {
			if now := time.Now(); rand.IntN(30) == 0 && p.frozen.Load() < now.UnixNano() {
				p.frozen.Store(now.Add(rand.N(longest)).UnixNano())
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

var errTimeout = errors.New("timeout")

// await polls until check holds or the (usually virtual) time is over.
func await(bound time.Duration, check func() error) error {
	for deadline := time.Now().Add(bound); ; {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(errTimeout, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}
