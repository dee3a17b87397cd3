package scheduler

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

const (
	// rateWindow is the memory of the arrival rate.
	rateWindow = 10 * time.Second
	// durationWeight is what a new run time counts in the mean.
	durationWeight = 1.0 / 8
	// orderFirst is how much of the ring's order is kept per version to begin with.
	orderFirst = 16
	// tokenMax bounds the idle tokens kept per version.
	tokenMax = 8
	// fadeMin is the least time in which a reported load loses half its weight.
	fadeMin = 50 * time.Millisecond
	// unknownTook and unknownCold stand in until there is a measurement.
	unknownTook = 10 * time.Millisecond
	unknownCold = 5 * time.Millisecond
)

// function is what this node knows about one version.
type function struct {
	hash uint64

	mu sync.Mutex
	// The three sources of the cached order; it is stale when one differs.
	table      *table
	version    *state.Version
	assignment *state.Assignment
	// may holds the nodes that may run the version. It may be shared: read only.
	may bits
	// order is the beginning of the ring's order of them; complete says all of it.
	order    []int32
	complete bool
	// concurrency is the version's, at least 1.
	concurrency int

	// warm lists the nodes announced as warm. warmSet holds the same once they are
	// too many to look through.
	warm    []int32
	warmSet bits

	tokens     [tokenMax]token
	tokenCount int

	// estimates holds what is known about the nodes that were sent calls.
	estimates estimates
	// sent is the sum of the estimates' sent.
	sent int
	// mean is the moving mean of the loads reported.
	mean float64

	// arrivals is a counter that decays with rateWindow, as of last.
	arrivals float64
	last     int64
	// took and cold are moving means in nanoseconds, 0 when unknown.
	took, cold float64

	random uint64

	// Most versions live on few nodes. Their lists lie here, beside what is read
	// anyway: a decision about one of many versions mostly waits for memory.
	orderRoom [orderFirst]int32
	warmRoom  [warmScan]int32
}

// warmScan is how many warm nodes are looked through rather than looked up.
const warmScan = 8

func newFunction(hash, seed uint64) *function {
	f := &function{hash: hash, random: seed ^ hash}
	f.order, f.warm = f.orderRoom[:0], f.warmRoom[:0]
	return f
}

// isWarmLocked reports whether the node announced the version as warm.
func (f *function) isWarmLocked(index int32) bool {
	if len(f.warm) <= warmScan {
		return slices.Contains(f.warm, index)
	}
	return f.warmSet.has(index)
}

// setWarmLocked keeps the list and the set alike.
func (f *function) setWarmLocked(index int32, warm bool) {
	if f.isWarmLocked(index) == warm {
		return
	}
	if !warm {
		f.warmSet.clear(index)
		f.warm = slices.DeleteFunc(f.warm, func(i int32) bool { return i == index })
		if e := f.estimates.get(index); e != nil {
			e.instances = 0
		}
		return
	}
	f.warm = append(f.warm, index)
	if len(f.warm) > warmScan {
		for _, i := range f.warm {
			f.warmSet = f.warmSet.grown(i)
			f.warmSet.set(i)
		}
	}
}

// token says that a node had an idle slot.
type token struct {
	node int32
	at   int64
}

// refreshLocked rebuilds what depends on membership and assignment.
func (f *function) refreshLocked(s *Scheduler, t *table, v *state.Version, a *state.Assignment, want int) {
	if f.table == t && f.version == v && f.assignment == a && (f.complete || len(f.order) >= want) {
		return
	}
	f.table, f.version, f.assignment = t, v, a
	f.may = t.runners(&s.registry, v, a)
	f.concurrency = max(int(v.Config.GetConcurrency()), 1)
	limit := max(orderFirst, 2*want)
	f.order = f.order[:0]
	f.complete = true
	t.ring.walk(f.hash, len(t.nodes), func(index int32) bool {
		if t.places != nil {
			index = t.places[index]
		}
		if !f.may.has(index) {
			return true
		}
		if len(f.order) == limit {
			f.complete = false
			return false
		}
		f.order = append(f.order, index)
		return true
	})
}

// decayLocked brings the arrival counter up to now.
func (f *function) decayLocked(now int64) {
	if dt := now - f.last; dt > 0 {
		f.arrivals *= math.Exp(-float64(dt) / float64(rateWindow))
		f.last = now
	}
}

// demandLocked is the expected number of this node's calls that run at once:
// arrival rate × duration, and at least what is under way.
func (f *function) demandLocked() float64 {
	rate := f.arrivals / rateWindow.Seconds()
	return max(rate*f.tookLocked()/1e9, float64(f.sent))
}

// tookLocked is the mean run time in nanoseconds, a guess before the first call.
func (f *function) tookLocked() float64 {
	if f.took == 0 {
		return float64(unknownTook)
	}
	return f.took
}

// coldLocked is the mean cost of a start in nanoseconds, likewise.
func (f *function) coldLocked() float64 {
	if f.cold == 0 {
		return float64(unknownCold)
	}
	return f.cold
}

// spreadLocked is k, the number of nodes from the ring that the demand needs.
func (f *function) spreadLocked(epsilon, slots float64) int {
	return max(1, int(math.Ceil(f.demandLocked()*(1+epsilon)/slots)))
}

// loadLocked is the estimated load of a node at that time.
func (f *function) loadLocked(index int32, now int64) (load float64, e *estimate) {
	e = f.estimates.get(index)
	if e == nil {
		return 0, nil
	}
	fade := max(f.tookLocked(), float64(fadeMin))
	age := max(float64(now-e.at), 0)
	return float64(e.sent) + e.others*fade/(fade+age), e
}

// pushTokenLocked remembers an idle slot; the oldest token makes room.
func (f *function) pushTokenLocked(index int32, now int64) {
	if f.tokenCount == tokenMax {
		copy(f.tokens[:], f.tokens[1:])
		f.tokenCount--
	}
	f.tokens[f.tokenCount] = token{node: index, at: now}
	f.tokenCount++
}

// nextLocked is splitmix64: small, and good enough to choose by.
func (f *function) nextLocked() uint64 {
	f.random += 0x9e3779b97f4a7c15
	return mixed(f.random)
}

// mixed makes of a number one that has nothing to do with it, the same on all nodes and
// in all releases: it says where keys live.
func mixed(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// pickLocked returns a number in [0, n).
func (f *function) pickLocked(n int) int { return int((f.nextLocked() >> 33) * uint64(n) >> 31) }
