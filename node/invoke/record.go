package invoke

import (
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// Record is what a node remembers of an invocation, for `covey explain`: where
// the call went, why there, cold or warm, and what each step took.
type Record struct {
	RequestID string `json:"request_id"`
	App       string `json:"app"`
	Function  string `json:"function"`
	Version   uint64 `json:"version"`
	Caller    string `json:"caller,omitempty"`
	// Keyed tells that the call came with a key, which is not kept: it may name a person.
	Keyed    bool            `json:"keyed,omitempty"`
	Entry    state.NodeID    `json:"entry_node"`
	Start    time.Time       `json:"start"`
	Took     time.Duration   `json:"took_ns"`
	Outcome  string          `json:"outcome"`
	Error    string          `json:"error,omitempty"`
	BytesIn  int64           `json:"bytes_in"`
	BytesOut int64           `json:"bytes_out"`
	Attempts []AttemptRecord `json:"attempts"`
	Usage    Usage           `json:"usage"`
}

// AttemptRecord is one sending of the call to one node.
type AttemptRecord struct {
	Node state.NodeID `json:"node"`
	// Reason says why the scheduler chose that node.
	Reason string `json:"reason"`
	Cold   bool   `json:"cold"`
	// Steps are the parts of this attempt's time, in order.
	Steps []Step        `json:"steps"`
	Took  time.Duration `json:"took_ns"`
	// Error is why the attempt failed; empty when it answered. Started tells
	// whether the function may have begun to run all the same.
	Error   string `json:"error,omitempty"`
	Started bool   `json:"started"`
}

// Records keeps the newest invocations of this node in a ring. Safe for
// concurrent use.
type Records struct {
	mu   sync.Mutex
	ring []Record       // guarded by mu; oldest is overwritten first
	next int            // guarded by mu; where the next record goes
	byID map[string]int // guarded by mu; request id to place in ring
}

// NewRecords returns a ring of n records; n must be positive.
func NewRecords(n int) *Records {
	return &Records{ring: make([]Record, 0, n), byID: make(map[string]int, n)}
}

// Add remembers r and forgets the oldest record when the ring is full. A record
// with the id of an earlier one replaces it in look-ups.
func (rs *Records) Add(r Record) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	at := rs.next
	if len(rs.ring) < cap(rs.ring) {
		rs.ring = append(rs.ring, r)
	} else {
		if old := rs.ring[at].RequestID; rs.byID[old] == at {
			delete(rs.byID, old)
		}
		rs.ring[at] = r
	}
	rs.byID[r.RequestID] = at
	rs.next = (at + 1) % cap(rs.ring)
}

// Find returns the newest record with the given request id.
func (rs *Records) Find(id string) (Record, bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	at, ok := rs.byID[id]
	if !ok {
		return Record{}, false
	}
	return rs.ring[at], true
}
