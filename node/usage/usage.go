// Package usage meters what functions consume on one node. Each finished
// invocation adds to counters per function and hour; the counters go to a local
// fsynced journal every ten seconds, so that a crash loses at most that much;
// hours that are over are handed to the cluster's state as one idempotent
// command per node, boot and hour.
//
// It does not price anything and does not ask other nodes: `covey usage` is the
// committed hours plus what each node answers for its open ones, put together
// by package node.
package usage

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Sample is what one finished invocation consumed.
type Sample struct {
	App, Function string
	// Failed tells that the caller got an error, the function's or ours.
	Failed bool
	// Cold tells that an instance was started for it, which took Init.
	Cold bool
	Init time.Duration
	// Billed is the run time, rounded up to a millisecond.
	Billed time.Duration
	CPU    time.Duration
	// Memory is the limit in bytes that the run time is charged at.
	Memory            int64
	BytesIn, BytesOut int64
}

// Row is the use of one function in one hour. All counters only grow.
type Row struct {
	App      string `json:"app"`
	Function string `json:"function"`
	// Hour is the start of the hour, in seconds since 1970.
	Hour        int64  `json:"hour"`
	Invocations uint64 `json:"invocations"`
	Errors      uint64 `json:"errors"`
	BilledMS    uint64 `json:"billed_ms"`
	CPUMS       uint64 `json:"cpu_ms"`
	// MemoryMiBMS is memory limit × billed time, in MiB·ms.
	MemoryMiBMS uint64 `json:"memory_mib_ms"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	ColdStarts  uint64 `json:"cold_starts"`
	InitMS      uint64 `json:"init_ms"`
}

// counters is a Row that many goroutines add to. CPU time is kept in
// microseconds so that short calls are not all rounded to nothing.
type counters struct {
	invocations, errors, billedMS, cpuUS, memoryMiBMS, bytesIn, bytesOut, coldStarts, initMS atomic.Uint64
}

type key struct {
	app, function string
	hour          int64
}

// Meter adds up samples. Safe for concurrent use.
type Meter struct {
	// rows is replaced whole when a function is first seen in an hour, so
	// that adding to a known row takes no lock.
	rows atomic.Pointer[map[key]*counters]
	mu   sync.Mutex // held while rows is replaced
}

// NewMeter returns an empty meter.
func NewMeter() *Meter {
	m := &Meter{}
	m.rows.Store(&map[key]*counters{})
	return m
}

// Add counts one invocation that ended at now. It does not block.
func (m *Meter) Add(s Sample, now time.Time) {
	c := m.counters(key{s.App, s.Function, now.Truncate(time.Hour).Unix()})
	billed := uint64(s.Billed.Milliseconds())
	c.invocations.Add(1)
	c.billedMS.Add(billed)
	c.cpuUS.Add(uint64(max(s.CPU, 0).Microseconds()))
	c.memoryMiBMS.Add(uint64(s.Memory>>20) * billed)
	c.bytesIn.Add(uint64(s.BytesIn))
	c.bytesOut.Add(uint64(s.BytesOut))
	if s.Failed {
		c.errors.Add(1)
	}
	if s.Cold {
		c.coldStarts.Add(1)
		c.initMS.Add(uint64(s.Init.Milliseconds()))
	}
}

func (m *Meter) counters(k key) *counters {
	if c := (*m.rows.Load())[k]; c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.rows.Load()
	if c := old[k]; c != nil {
		return c
	}
	next := maps.Clone(old)
	c := &counters{}
	next[k] = c
	m.rows.Store(&next)
	return c
}

// Rows returns the current counters, of all hours that were not dropped, in no
// particular order.
func (m *Meter) Rows() []Row {
	rows := *m.rows.Load()
	out := make([]Row, 0, len(rows))
	for k, c := range rows {
		out = append(out, Row{
			App: k.app, Function: k.function, Hour: k.hour,
			Invocations: c.invocations.Load(), Errors: c.errors.Load(),
			BilledMS: c.billedMS.Load(), CPUMS: c.cpuUS.Load() / 1000, MemoryMiBMS: c.memoryMiBMS.Load(),
			BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
			ColdStarts: c.coldStarts.Load(), InitMS: c.initMS.Load(),
		})
	}
	return out
}

// Drop forgets the rows of an hour. A sample that is added to that hour
// afterwards starts a new row, which is why the journal closes an hour only
// some time after it is over.
func (m *Meter) Drop(hour int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(*m.rows.Load())
	maps.DeleteFunc(next, func(k key, _ *counters) bool { return k.hour == hour })
	m.rows.Store(&next)
}
