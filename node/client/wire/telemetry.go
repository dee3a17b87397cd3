package wire

import "time"

// LogQuery selects lines of functions' logs.
type LogQuery struct {
	App      string
	Function string
	// RequestID selects one invocation's lines; empty means all.
	RequestID string
	// Since leaves out older lines; the zero time means all that is kept.
	Since time.Time
	// Tail is how many of the newest lines to give; 0 means all.
	Tail int
	// Follow keeps the answer open for new lines until the caller leaves.
	Follow bool
}

// LogLine is one line that a function wrote.
type LogLine struct {
	Time      time.Time `json:"time"`
	App       string    `json:"app"`
	Function  string    `json:"function"`
	Version   uint64    `json:"version"`
	Node      string    `json:"node,omitempty"`
	Instance  string    `json:"instance,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	// Stream is "stdout", "stderr" or "platform".
	Stream string `json:"stream"`
	Level  string `json:"level,omitempty"`
	Text   string `json:"text"`
}

// UsageQuery selects usage.
type UsageQuery struct {
	// App and Function restrict the rows; empty means all.
	App      string
	Function string
	// Since and Until bound the hours, Until being exclusive; zero means open.
	Since, Until time.Time
}

// UsageRow is what one function used in one hour.
type UsageRow struct {
	App         string    `json:"app"`
	Function    string    `json:"function"`
	Hour        time.Time `json:"hour"`
	Invocations uint64    `json:"invocations"`
	Errors      uint64    `json:"errors"`
	ColdStarts  uint64    `json:"cold_starts"`
	BilledMS    uint64    `json:"billed_ms"`
	InitMS      uint64    `json:"init_ms"`
	CPUMS       uint64    `json:"cpu_ms"`
	// MemoryMiBMS is the memory limit in MiB times the billed milliseconds.
	MemoryMiBMS uint64 `json:"memory_mib_ms"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
}

// UsageReport is the committed hours and what live nodes add to them.
type UsageReport struct {
	Rows []UsageRow `json:"rows"`
	// Missing names the nodes that did not answer, whose last hours lack.
	Missing []string `json:"missing,omitempty"`
}

// Step is one part of an invocation's time.
type Step struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took_ns"`
}

// Usage is what one invocation is charged for.
type Usage struct {
	Billed      time.Duration `json:"billed_ns"`
	Init        time.Duration `json:"init_ns"`
	CPU         time.Duration `json:"cpu_ns"`
	MemoryLimit int64         `json:"memory_limit_bytes"`
	MemoryPeak  int64         `json:"memory_peak_bytes"`
}

// Record is what became of one invocation.
type Record struct {
	RequestID string `json:"request_id"`
	App       string `json:"app"`
	Function  string `json:"function"`
	Version   uint64 `json:"version"`
	Caller    string `json:"caller,omitempty"`
	// Keyed tells that the call came with a key.
	Keyed    bool            `json:"keyed,omitempty"`
	Entry    string          `json:"entry_node"`
	Start    time.Time       `json:"start"`
	Took     time.Duration   `json:"took_ns"`
	Outcome  string          `json:"outcome"`
	Error    string          `json:"error,omitempty"`
	BytesIn  int64           `json:"bytes_in"`
	BytesOut int64           `json:"bytes_out"`
	Attempts []AttemptRecord `json:"attempts"`
	Usage    Usage           `json:"usage"`
}

// AttemptRecord is one sending of a call to one node.
type AttemptRecord struct {
	Node string `json:"node"`
	// Reason says why that node.
	Reason string        `json:"reason"`
	Cold   bool          `json:"cold"`
	Steps  []Step        `json:"steps"`
	Took   time.Duration `json:"took_ns"`
	Error  string        `json:"error,omitempty"`
	// Started tells whether the function may have begun in a failed attempt.
	Started bool `json:"started"`
}
