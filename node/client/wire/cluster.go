package wire

import "time"

// NodeStatus is what is known of one node.
type NodeStatus struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Role is "voter", "standby" or "observer".
	Role   string `json:"role"`
	Leader bool   `json:"leader"`
	// Alive is gossip's opinion, and decides nothing.
	Alive    bool `json:"alive"`
	Draining bool `json:"draining"`
	// API, Peer and Gossip are the addresses that others reach it at.
	API    string `json:"api"`
	Peer   string `json:"peer"`
	Gossip string `json:"gossip"`

	OS       string   `json:"os"`
	Arch     string   `json:"arch"`
	CPUs     int      `json:"cpus"`
	Runtimes []string `json:"runtimes,omitempty"`
	// Labels are what its operator says of it, for functions that ask for it.
	Labels map[string]string `json:"labels,omitempty"`
	// Sandbox is the level its functions run at; Warnings say what lacks.
	Sandbox  string   `json:"sandbox"`
	Warnings []string `json:"warnings,omitempty"`

	MemoryBytes       int64 `json:"memory_bytes"`
	MemoryBudgetBytes int64 `json:"memory_budget_bytes"`
	MemoryUsedBytes   int64 `json:"memory_used_bytes"`
	Instances         int   `json:"instances"`
	InFlight          int   `json:"in_flight"`
	Queued            int   `json:"queued"`

	// Index is how far the node has applied the control state.
	Index uint64 `json:"index"`
	// Build is the version of its binary.
	Build  string    `json:"build"`
	Joined time.Time `json:"joined"`
	// Functions is the load by version; Error says why the node did not answer,
	// in which case what it alone knows is zero.
	Functions []Load `json:"functions,omitempty"`
	Error     string `json:"error,omitempty"`
}

// Status is the cluster as the answering node sees it.
type Status struct {
	ClusterID string `json:"cluster_id"`
	// Node and Name are the answering node.
	Node string `json:"node"`
	Name string `json:"name"`
	Role string `json:"role"`
	// Leader is the id of the leading voter; empty when there is none.
	Leader string `json:"leader,omitempty"`
	// Quorum tells whether control writes are possible now.
	Quorum bool `json:"quorum"`
	// Voters, Standbys, Observers and Alive count nodes.
	Voters    int `json:"voters"`
	Standbys  int `json:"standbys"`
	Observers int `json:"observers"`
	Alive     int `json:"alive"`

	Index        uint64    `json:"index"`
	FeatureLevel uint32    `json:"feature_level"`
	Apps         int       `json:"apps"`
	Functions    int       `json:"functions"`
	Build        string    `json:"build"`
	Started      time.Time `json:"started"`
	// Warnings are for people: one copy votes, a clock is off, a sandbox is low.
	Warnings []string `json:"warnings,omitempty"`
}

// Check is one part of a node's readiness.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail says what is wrong, or how well it is.
	Detail string `json:"detail,omitempty"`
}

// DrainRequest is the body of a drain.
type DrainRequest struct {
	On bool `json:"on"`
}

// The names of scopes, each of which allows what its comment says.
const (
	// ScopeRead allows to look at functions, logs and usage.
	ScopeRead = "read"
	// ScopeInvoke allows to call functions, and nothing else.
	ScopeInvoke = "invoke"
	// ScopeDeploy allows to change functions, and to read and call them.
	ScopeDeploy = "deploy"
	// ScopeAdmin allows everything.
	ScopeAdmin = "admin"
)

// The kinds of tokens.
const (
	// KindAPI opens the HTTP API.
	KindAPI = "api"
	// KindJoin lets a machine become a node.
	KindJoin = "join"
	// KindAWSKey is an access key: an id and a secret that AWS's clients sign
	// requests with (SigV4).
	KindAWSKey = "aws-key"
)

// TokenRequest asks for a new API token or access key.
type TokenRequest struct {
	// Kind is KindAPI, which is the default, or KindAWSKey.
	Kind string `json:"kind,omitempty"`
	// Description says what it is for, in lists.
	Description string `json:"description,omitempty"`
	// Scopes are needed for an API token; an access key without gets ScopeInvoke.
	Scopes []string `json:"scopes,omitempty"`
	// App confines the token to one app; empty means all.
	App string `json:"app,omitempty"`
	// TTLSeconds is its lifetime; 0 means 90 days, a negative one for ever.
	TTLSeconds int64 `json:"ttl_seconds,omitempty"`
}

// Token is what is known of a token; never the token itself.
type Token struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Description string    `json:"description,omitempty"`
	Scopes      []string  `json:"scopes,omitempty"`
	App         string    `json:"app,omitempty"`
	Created     time.Time `json:"created"`
	// Expires is the zero time for a token that does not.
	Expires time.Time `json:"expires,omitzero"`
	// Uses is how many nodes may join with a join token, Used how many did.
	Uses int `json:"uses,omitempty"`
	Used int `json:"used,omitempty"`
}

// NewToken is the answer to [TokenRequest], and the only time Secret is shown. The
// ID of an access key is what AWS calls the access key id.
type NewToken struct {
	Token
	Secret string `json:"secret"`
}

// JoinTokenRequest asks for a token that lets machines join the cluster.
type JoinTokenRequest struct {
	// TTLSeconds is its lifetime; default one hour.
	TTLSeconds int64 `json:"ttl_seconds,omitempty"`
	// Uses is how many nodes may join with it; 0 means any number.
	Uses int `json:"uses,omitempty"`
}

// JoinToken is the answer to [JoinTokenRequest].
type JoinToken struct {
	Token string `json:"token"`
}

// App is a namespace and the limits it has; a limit of 0 is none of its own.
type App struct {
	Name      string    `json:"name"`
	Functions int       `json:"functions"`
	Created   time.Time `json:"created"`
	Limits    Limits    `json:"limits"`
}

// Limits bound what an app may use.
type Limits struct {
	Functions            uint32 `json:"functions,omitempty"`
	MemoryBytes          uint64 `json:"memory_bytes,omitempty"`
	TimeoutMS            uint64 `json:"timeout_ms,omitempty"`
	InvocationsPerSecond uint32 `json:"invocations_per_second,omitempty"`
	Burst                uint32 `json:"burst,omitempty"`
	Concurrency          uint32 `json:"concurrency,omitempty"`
	BodyBytes            uint64 `json:"body_bytes,omitempty"`
}

// List wraps every list, so that a field can be added beside the items.
type List[T any] struct {
	Items []T `json:"items"`
}
