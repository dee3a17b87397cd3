package wire

import "time"

// TopQuery asks for the traffic of the cluster.
type TopQuery struct {
	// Interval is the time between two reports; 0 means one second.
	Interval time.Duration
	// Count is how many reports to give; 0 means until the caller leaves.
	Count int
}

// Top is what a cluster did in one interval and has in hand at its end.
type Top struct {
	Time time.Time `json:"time"`
	// WindowMS is the length of the interval as it was.
	WindowMS  int64  `json:"window_ms"`
	ClusterID string `json:"cluster_id"`
	// Leader is a name; empty when there is none.
	Leader string `json:"leader,omitempty"`
	// Alive counts nodes by gossip's opinion.
	Alive          int     `json:"alive"`
	CallsPerSecond float64 `json:"calls_per_second"`
	InFlight       int     `json:"in_flight"`
	Queued         int     `json:"queued"`
	// Nodes is by name, Functions by app, name and version. A version that had no
	// call and has no instance is left out.
	Nodes     []TopNode     `json:"nodes"`
	Functions []TopFunction `json:"functions"`
	// Missing names the nodes that did not answer, whose part lacks everywhere.
	Missing []string `json:"missing,omitempty"`
}

// TopNode is one node's part.
type TopNode struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Role     string `json:"role"`
	Leader   bool   `json:"leader"`
	Alive    bool   `json:"alive"`
	Draining bool   `json:"draining"`
	// Error says that the node did not answer; the numbers are zero then.
	Error string `json:"error,omitempty"`
	// CPUPercent is of all processors of the machine, whatever used them; nil
	// where that is not known.
	CPUPercent        *float64 `json:"cpu_percent,omitempty"`
	MemoryUsedBytes   int64    `json:"memory_used_bytes"`
	MemoryBudgetBytes int64    `json:"memory_budget_bytes"`
	// Idle, Busy and Starting count instances.
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Starting int `json:"starting"`
	InFlight int `json:"in_flight"`
	Queued   int `json:"queued"`
	// CallsPerSecond ran there, wherever they entered the cluster.
	CallsPerSecond float64 `json:"calls_per_second"`
}

// TopFunction is one version's part. Calls are counted when they are over.
type TopFunction struct {
	App      string `json:"app"`
	Function string `json:"function"`
	Version  uint64 `json:"version"`
	// Aliases lead to it, alone or with a weight.
	Aliases []string `json:"aliases,omitempty"`

	Calls     uint64 `json:"calls"`
	Errors    uint64 `json:"errors"`
	Cold      uint64 `json:"cold"`
	Forwarded uint64 `json:"forwarded"`
	// Resent counts attempts beyond the first of each call.
	Resent          uint64  `json:"resent"`
	CallsPerSecond  float64 `json:"calls_per_second"`
	ErrorsPerSecond float64 `json:"errors_per_second"`

	InFlight int `json:"in_flight"`
	Queued   int `json:"queued"`
	// Instances can take calls, on that many Nodes; Starting will soon.
	Instances int `json:"instances"`
	Starting  int `json:"starting"`
	Nodes     int `json:"nodes"`

	// ColdRatio is Cold ÷ Calls; it and the response times are nil without calls.
	// P50MS and P99MS are off by at most a sixteenth.
	ColdRatio *float64 `json:"cold_ratio,omitempty"`
	P50MS     *float64 `json:"p50_ms,omitempty"`
	P99MS     *float64 `json:"p99_ms,omitempty"`
}
