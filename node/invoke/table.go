package invoke

import (
	"sync"
	"sync/atomic"
	"time"

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
	// spec is how the version runs here; nil when this node may not run it.
	spec *executor.Spec
}

// table holds the targets of one view.
type table struct {
	view    *state.View
	targets sync.Map // *state.Version → *target
}

// tables keeps the table of the newest view. Safe for concurrent use.
type tables struct {
	self    state.NodeID
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
	found, _ := t.targets.LoadOrStore(ver, newTarget(view, ts.self, ver))
	return found.(*target)
}

func newTarget(view *state.View, self state.NodeID, ver *state.Version) *target {
	t := &target{
		version: ver, name: ver.Key.String(), assignment: view.Assignment(ver.Key),
		timeout: ver.Timeout(), idempotent: ver.Config.GetIdempotent(),
	}
	if spec, ok := SpecOn(view, self, ver); ok {
		t.spec = &spec
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
		Env:          c.GetEnv(),
		MinLevel:     sandbox.Level(c.GetMinSandbox()),
	}, true
}

// KeyOf is a version's key as the executor has it.
func KeyOf(key state.VersionKey) executor.Key {
	return executor.Key{App: string(key.App), Function: string(key.Function), Version: uint64(key.Number)}
}
