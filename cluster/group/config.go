package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// FSM is the replicated state. Apply, Snapshot and Restore are never called at
// the same time as each other.
type FSM interface {
	// Apply applies a committed entry and returns what the proposer gets. It must
	// be deterministic and must keep data unchanged; it may keep a reference.
	Apply(index Index, data []byte) any
	// Snapshot captures the state quickly; Apply waits for it.
	Snapshot() (Snapshot, error)
	// Restore replaces the whole state by what a Snapshot wrote. The state
	// includes every entry up to and including index.
	Restore(index Index, r io.Reader) error
}

// Snapshot is a captured state. Write runs while later entries are applied.
type Snapshot interface {
	// Write streams the state. It may be called once.
	Write(w io.Writer) error
	// Release is called exactly once, after Write or instead of it.
	Release()
}

// Timings are the group's clocks. A test profile shortens them together.
type Timings struct {
	// Heartbeat is how long a follower waits for the leader before it campaigns.
	// Too low: elections when a machine is busy. Too high: a dead leader is missed
	// for longer.
	Heartbeat time.Duration
	// Election is how long a candidate waits before it campaigns again.
	Election time.Duration
	// Lease is how long a leader leads without a majority; at most Heartbeat.
	Lease time.Duration
	// RPC bounds each request between members; a snapshot gets it per 256 KiB.
	RPC time.Duration
	// Dial bounds connecting to a member, so that a healed partition is noticed.
	Dial time.Duration
	// Health is the time between two looks at the members' health, and Reconcile
	// the time between two rounds of changes to who votes.
	Health, Reconcile time.Duration
	// Stable is how long a standby must have been healthy to be promoted.
	Stable time.Duration
	// Replace is how long the leader's own contact with a member must have failed
	// before another takes its place.
	Replace time.Duration
}

// DefaultTimings returns the timings of a production group. With them a killed
// leader is replaced within about 1.5 seconds.
func DefaultTimings() Timings {
	return Timings{
		Heartbeat: 500 * time.Millisecond,
		Election:  500 * time.Millisecond,
		Lease:     400 * time.Millisecond,
		RPC:       10 * time.Second,
		Dial:      2 * time.Second,
		Health:    time.Second,
		Reconcile: 2 * time.Second,
		Stable:    3 * time.Second,
		Replace:   30 * time.Second,
	}
}

// Limits bound what can pile up.
type Limits struct {
	// Proposals and Reads are how many may be in flight on this node. Above it
	// callers get ErrOverloaded. A tenth of Proposals more is kept for ProposeSystem.
	Proposals, Reads int
	// EntryBytes is the largest entry.
	EntryBytes int
	// CacheBytes bounds the log entries kept in memory for followers and observers.
	CacheBytes int
	// SnapshotEntries and SnapshotBytes are how much log may gather before a
	// snapshot is taken; the first one reached counts.
	SnapshotEntries uint64
	SnapshotBytes   int64
	// TrailingEntries and TrailingBytes are how much log is left behind a snapshot
	// for members that are a little late; the first one reached counts.
	TrailingEntries uint64
	TrailingBytes   int64
}

// DefaultLimits returns limits for small, rare entries.
func DefaultLimits() Limits {
	return Limits{
		Proposals:       256,
		Reads:           1024,
		EntryBytes:      512 << 10,
		CacheBytes:      4 << 20,
		SnapshotEntries: 8192,
		SnapshotBytes:   16 << 20,
		TrailingEntries: 4096,
		TrailingBytes:   8 << 20,
	}
}

// DiskConfig sets the watch over the disk.
type DiskConfig struct {
	// StallMax is how long one write may hang before the process is ended.
	StallMax time.Duration
	// FullMax is how long the disk may stay full before the process is ended.
	FullMax time.Duration
	// Reserve is the size of the file that is given up when the disk is full, so
	// that the group can still write while space is made. 0 keeps none.
	Reserve int64
	// Low is the soft watermark: with less free space clients' proposals are
	// refused. 0 switches it off.
	Low int64
	// Free tells the free bytes of the file system that holds a directory; nil
	// asks the system.
	Free func(dir string) (int64, error)
	// Wrap, if set, replaces the log store below the watch. Tests inject faults
	// with it.
	Wrap func(LogStore) LogStore
}

// DefaultDisk returns the limits of a production node.
func DefaultDisk() DiskConfig {
	return DiskConfig{
		StallMax: 5 * time.Second,
		FullMax:  30 * time.Second,
		Reserve:  64 << 20,
		Low:      192 << 20,
	}
}

// Config holds all that Open needs. Start from DefaultConfig.
type Config struct {
	// Name tells groups apart in logs, metrics and on the peer port, where the
	// group serves the protocols "covey-raft-<name>" and "covey-stat-<name>".
	Name string
	// Dir holds the group's files; it is created. One process at a time.
	Dir string
	// ID is this node.
	ID NodeID
	// Advertise is this node's own peer address.
	Advertise string
	// FSM is the replicated state, empty: Open restores it.
	FSM FSM
	// Mux is the peer port.
	Mux *Mux

	// Servers returns the nodes that may hold a role, from replicated state. It is
	// called often, from several goroutines, and must not block. Addresses of
	// members are looked up in it; an empty result means unknown and changes nothing.
	Servers func() []Server
	// BeforeChange, if set, is called on the leader before a role changes; an error
	// postpones the change. It may block until its context ends.
	BeforeChange func(context.Context, Change) error
	// AfterChange, if set, is called on the leader after a role changed.
	AfterChange func(context.Context, Change)
	// ManualMembership leaves all changes of roles to the caller.
	ManualMembership bool

	// Exit ends the process; it is called at most once, with the reason, when the
	// disk is beyond hope. Required.
	Exit func(reason error)

	Timings    Timings
	Limits     Limits
	Disk       DiskConfig
	Logger     zerolog.Logger
	Registerer prometheus.Registerer

	// vouchAfter replaces the transport's patience in tests of it.
	vouchAfter time.Duration
}

// DefaultConfig returns a configuration that lacks only the required fields.
func DefaultConfig() Config {
	return Config{
		Timings: DefaultTimings(),
		Limits:  DefaultLimits(),
		Disk:    DefaultDisk(),
		Logger:  zerolog.Nop(),
	}
}

// Validate reports every problem of the configuration.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.Name != "", "Name is empty")
	need(c.Dir != "", "Dir is empty")
	need(c.ID != "", "ID is empty")
	need(c.Advertise != "", "Advertise is empty")
	need(c.FSM != nil, "FSM is nil")
	need(c.Mux != nil, "Mux is nil")
	need(c.Exit != nil, "Exit is nil")
	need(c.Servers != nil, "Servers is nil")
	errs = append(errs, c.Timings.validate(), c.Limits.validate(), c.Disk.validate())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("group config: %w", err)
	}
	return nil
}

// validate reports every problem. Raft would refuse most of them too, but one at a
// time and after the stores were opened.
func (t *Timings) validate() error {
	var errs []error
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"Heartbeat", t.Heartbeat},
		{"Election", t.Election},
		{"Lease", t.Lease},
		{"RPC", t.RPC},
		{"Dial", t.Dial},
		{"Health", t.Health},
		{"Reconcile", t.Reconcile},
		{"Stable", t.Stable},
		{"Replace", t.Replace},
	} {
		// Raft itself refuses election timings under 5 ms.
		if d.d < 5*time.Millisecond {
			errs = append(errs, fmt.Errorf("field Timings.%s is %v, under 5ms", d.name, d.d))
		}
	}
	if t.Lease > t.Heartbeat {
		errs = append(errs, fmt.Errorf("field Timings.Lease %v is above Heartbeat %v", t.Lease, t.Heartbeat))
	}
	if t.Election < t.Heartbeat {
		errs = append(errs, fmt.Errorf("field Timings.Election %v is under Heartbeat %v", t.Election, t.Heartbeat))
	}
	return errors.Join(errs...)
}

// validate refuses a bound of zero, which would mean "nothing" here and "no bound"
// to a reader.
func (l *Limits) validate() error {
	var errs []error
	for _, n := range []struct {
		name string
		n    int64
	}{
		{"Proposals", int64(l.Proposals)},
		{"Reads", int64(l.Reads)},
		{"EntryBytes", int64(l.EntryBytes)},
		{"CacheBytes", int64(l.CacheBytes)},
		{"SnapshotEntries", int64(l.SnapshotEntries)},
		{"SnapshotBytes", l.SnapshotBytes},
		{"TrailingEntries", int64(l.TrailingEntries)},
		{"TrailingBytes", l.TrailingBytes},
	} {
		if n.n <= 0 {
			errs = append(errs, fmt.Errorf("limit %s is %d, not above 0", n.name, n.n))
		}
	}
	return errors.Join(errs...)
}

// validate accepts zero where it switches something off.
func (d *DiskConfig) validate() error {
	var errs []error
	if d.StallMax <= 0 {
		errs = append(errs, fmt.Errorf("field Disk.StallMax is %v, not above 0", d.StallMax))
	}
	if d.FullMax <= 0 {
		errs = append(errs, fmt.Errorf("field Disk.FullMax is %v, not above 0", d.FullMax))
	}
	if d.Reserve < 0 || d.Low < 0 {
		errs = append(errs, fmt.Errorf("one of Disk.Reserve %d and Disk.Low %d is below 0", d.Reserve, d.Low))
	}
	return errors.Join(errs...)
}
