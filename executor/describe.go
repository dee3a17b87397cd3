package executor

import (
	"slices"
	"strings"
	"time"
)

// InstanceInfo describes an instance at one moment.
type InstanceInfo struct {
	ID    string
	Key   Key
	State State
	// Pid is the process id, 0 while starting.
	Pid int
	// Asked is when its start was decided, LastUsed when its last call ended.
	Asked, LastUsed time.Time
	// InFlight is the number of calls in it.
	InFlight int
	// MemoryLimit and MemoryPeak are bytes.
	MemoryLimit, MemoryPeak int64
}

// Instances lists everything that lives here, by version and id.
func (e *Executor) Instances() []InstanceInfo {
	var out []InstanceInfo
	for _, p := range *e.pools.Load() {
		out = p.describe(out)
	}
	slices.SortFunc(out, func(a, b InstanceInfo) int {
		if c := byKey(a.Key, b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// describe adds the pool's instances to out.
func (p *pool) describe(out []InstanceInfo) []InstanceInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	for in := range p.all {
		info := InstanceInfo{
			ID: in.id, Key: p.key, State: in.state, Asked: in.asked, LastUsed: in.lastUsed,
			InFlight: in.busy, MemoryLimit: in.spec.Memory, MemoryPeak: in.peak.Load(),
		}
		if in.state == StateReady || in.state == StateDraining {
			info.Pid = in.process.Pid()
		}
		if in.state == StateReady && in.busy > 0 {
			info.State = StateBusy
		}
		out = append(out, info)
	}
	return out
}

// Failure describes a version whose newest instances ended without completing a
// call.
type Failure struct {
	Key Key
	// Failures is how many in a row did.
	Failures int
	// Until is when the next start is allowed; zero if it is now.
	Until time.Time
	// Reason is why the last of them failed.
	Reason string
}

// Failing lists the versions that do not come up here, by key.
func (e *Executor) Failing() []Failure {
	var out []Failure
	now := time.Now()
	for _, p := range *e.pools.Load() {
		p.mu.Lock()
		if b := &p.failing; b.failures > 0 {
			f := Failure{Key: p.key, Failures: b.failures, Reason: b.reason}
			if b.active(now) {
				f.Until = b.until.Round(0)
			}
			out = append(out, f)
		}
		p.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b Failure) int { return byKey(a.Key, b.Key) })
	return out
}
