package invoke

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/executor/sandbox"
)

// target is what the path needs to know of one version under one view. It is
// made once per view and version, so that a warm call only looks it up.
type target struct {
	version    *state.Version
	name       string // of the version, "app/name:3"
	assignment *state.Assignment
	timeout    time.Duration
	idempotent bool
	// rate bounds the calls that enter here, nil for most.
	rate *clusterpb.Rate
	// spec is how the version runs here; nil when this node may not run it.
	spec *executor.Spec
	// reserved is this node's share of the function's reserved concurrency, if the
	// spec says that there is one.
	reserved int
	// counts is where its calls are counted.
	counts *counters
}

// table holds the targets of one view.
type table struct {
	view    *state.View
	targets sync.Map // *state.Version → *target
}

// tables keeps the table of the newest view. Safe for concurrent use.
type tables struct {
	self    state.NodeID
	traffic *Traffic
	current atomic.Pointer[table]
}

// find returns the target of a version of the view.
func (ts *tables) find(view *state.View, ver *state.Version) *target {
	t := ts.current.Load()
	if t == nil || t.view != view {
		t = &table{view: view}
		ts.current.Store(t) // a lost race costs one more table
	}
	if found, ok := t.targets.Load(ver); ok {
		return found.(*target)
	}
	made := newTarget(view, ts.self, ver)
	made.counts = ts.traffic.of(ver.Key)
	found, _ := t.targets.LoadOrStore(ver, made)
	return found.(*target)
}

func newTarget(view *state.View, self state.NodeID, ver *state.Version) *target {
	t := &target{
		version: ver, name: ver.Key.String(), assignment: assignmentOf(view, ver),
		timeout: ver.Timeout(), idempotent: ver.Config.GetIdempotent(),
	}
	if f := view.Function(ver.Key.App, ver.Key.Function); f != nil {
		t.rate = f.Rate()
	}
	if spec, ok := SpecOn(view, self, ver); ok {
		t.spec = &spec
		t.reserved = view.Reservation(ver.Key.FunctionKey()).Place(self).Share
	}
	return t
}

// SpecOn returns how a version runs on a node under a view: its configuration
// and the node's share. It reports false when the node may not or cannot run it.
func SpecOn(view *state.View, node state.NodeID, ver *state.Version) (executor.Spec, bool) {
	member := view.Member(node)
	share, assigned := view.Share(ver.Key, node)
	if member == nil || !assigned || !member.Eligible(ver.Config) {
		return executor.Spec{}, false
	}
	artifact := member.Artifact(ver.Config)
	if artifact == nil {
		return executor.Spec{}, false
	}
	c := ver.Config
	reserved := reservedFor(view, ver)
	if reserved {
		entered := view.Reservation(ver.Key.FunctionKey()).Place(node).Share
		if entered == 0 {
			return executor.Spec{}, false
		}
		share = capped(share, entered, c)
	}
	return executor.Spec{
		Key:          KeyOf(ver.Key),
		Runtime:      c.GetRuntime(),
		Handler:      c.GetHandler(),
		Digest:       artifact.GetDigest(),
		Memory:       int64(c.GetMemoryBytes()),
		Timeout:      ver.Timeout(),
		IdleTTL:      time.Duration(c.GetIdleTtlMs()) * time.Millisecond,
		StartTimeout: time.Duration(c.GetStartTimeoutMs()) * time.Millisecond,
		Concurrency:  int(c.GetConcurrency()),
		Queue:        share.Queue,
		Max:          share.Max,
		Min:          share.Provisioned,
		Reserved:     reserved,
		Env:          c.GetEnv(),
		MinLevel:     sandbox.Level(c.GetMinSandbox()),
	}, true
}

// reservedFor tells whether the version's function has reserved concurrency.
func reservedFor(view *state.View, ver *state.Version) bool {
	f := view.Function(ver.Key.App, ver.Key.Function)
	return f != nil && f.Reserved() > 0
}

// capped leaves a place no more instances than its share of reserved concurrency fills.
func capped(p state.Place, share int, cfg *clusterpb.VersionConfig) state.Place {
	slots := max(int(cfg.GetConcurrency()), 1)
	most := (share + slots - 1) / slots
	if p.Max == 0 || p.Max > most {
		p.Max = most
	}
	p.Provisioned = min(p.Provisioned, p.Max)
	return p
}

// assignmentOf is where the version's calls may go. Of a function with reserved
// concurrency that is where it has a share of both.
func assignmentOf(view *state.View, ver *state.Version) *state.Assignment {
	if !reservedFor(view, ver) {
		return view.Assignment(ver.Key)
	}
	a := &state.Assignment{Version: ver.Key}
	r := view.Reservation(ver.Key.FunctionKey())
	if r == nil {
		return a
	}
	for _, p := range r.Places {
		if place, ok := view.Share(ver.Key, p.Node); ok && p.Share > 0 {
			place.Node = p.Node
			a.Places = append(a.Places, capped(place, p.Share, ver.Config))
		}
	}
	return a
}

// KeyOf is a version's key as the executor has it.
func KeyOf(key state.VersionKey) executor.Key {
	return executor.Key{App: string(key.App), Function: string(key.Function), Version: uint64(key.Number)}
}
