package wire

import "time"

// Redacted stands in for the value of an environment variable, which is shown
// to nobody once it is deployed.
const Redacted = "(redacted)"

// Artifact is the code of a version for one operating system and architecture.
type Artifact struct {
	// OS and Arch are Go's names; empty means any.
	OS   string `json:"os,omitempty"`
	Arch string `json:"arch,omitempty"`
	// Digest is "sha256:" and the hexadecimal digest, as the upload returned it.
	Digest string `json:"digest"`
	Size   uint64 `json:"size"`
}

// FunctionSpec is what a version is made of. A zero field means the default.
type FunctionSpec struct {
	// Runtime says how the code is hosted; default "go".
	Runtime string `json:"runtime,omitempty"`
	Handler string `json:"handler,omitempty"`
	// MemoryBytes limits one instance; default 256 MiB.
	MemoryBytes uint64 `json:"memory_bytes,omitempty"`
	// TimeoutMS limits one invocation; default 30,000, at most 900,000.
	TimeoutMS uint64 `json:"timeout_ms,omitempty"`
	// StartTimeoutMS limits the start of an instance.
	StartTimeoutMS uint64 `json:"start_timeout_ms,omitempty"`
	// Concurrency is how many calls an instance takes at once; default 1.
	Concurrency uint32 `json:"concurrency,omitempty"`
	// Queue is how many calls may wait, in the whole cluster when Max is set and
	// per node otherwise; absent means 128, and 0 that none may.
	Queue *uint32 `json:"queue,omitempty"`
	// Min and Max bound the instances in the whole cluster; a Max of 0 means as
	// many as memory holds.
	Min uint32 `json:"min,omitempty"`
	Max uint32 `json:"max,omitempty"`
	// Reserved is how many calls of the function run at once in the whole cluster, at
	// most; 0 means any number. Of all versions, the one that "live" names decides.
	Reserved uint32 `json:"reserved,omitempty"`
	// Provisioned keeps instances warm at certain times, beside Min.
	Provisioned []Provision `json:"provisioned,omitempty"`
	// Rate bounds the calls of the function that enter at one node. As with Reserved,
	// the version that "live" names decides.
	Rate *Rate `json:"rate,omitempty"`
	// IdleTTLMS is how long an unused instance is kept; default 600,000.
	IdleTTLMS uint64 `json:"idle_ttl_ms,omitempty"`
	// Env is the environment; values are shown as [Redacted] ever after.
	Env map[string]string `json:"env,omitempty"`
	// Idempotent allows a call whose outcome is unknown to be run again.
	Idempotent bool `json:"idempotent,omitempty"`
	// MinSandbox is the least sandbox level of a node that may run this.
	MinSandbox uint32 `json:"min_sandbox,omitempty"`
	// Place is the labels that a node must have to run this, with their values.
	Place map[string]string `json:"place,omitempty"`
	// Affinity sends calls with the same key to the same node, while that may run
	// this.
	Affinity    bool              `json:"affinity,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Description string            `json:"description,omitempty"`
	// Artifacts is the code, at most one for each kind of machine.
	Artifacts []Artifact `json:"artifacts"`
}

// DeployRequest is the body of a PUT on a function.
type DeployRequest struct {
	FunctionSpec
	// KeepLive leaves the alias "live" where it is.
	KeepLive bool `json:"keep_live,omitempty"`
}

// Version is one immutable version of a function.
type Version struct {
	App      string       `json:"app"`
	Function string       `json:"function"`
	Number   uint64       `json:"version"`
	Created  time.Time    `json:"created"`
	Aliases  []string     `json:"aliases,omitempty"`
	Spec     FunctionSpec `json:"spec"`
}

// Deployed is the answer to [DeployRequest]: the new version, and what the
// deployer should know about it.
type Deployed struct {
	Version
	// Warnings are for people: only some nodes can run it, and why not the others.
	Warnings []string `json:"warnings,omitempty"`
}

// Alias is a movable name for a version, or for a weighted pair.
type Alias struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	// Other is the second version of a pair and OtherWeight its part of the
	// calls, 0 to 1.
	Other       uint64  `json:"other,omitempty"`
	OtherWeight float64 `json:"other_weight,omitempty"`
	Description string  `json:"description,omitempty"`
	// Revision counts changes, and is the ETag of the alias.
	Revision uint64    `json:"revision"`
	Updated  time.Time `json:"updated"`
}

// AliasChange is the body of a PUT on an alias.
type AliasChange struct {
	// Version to name; 0 means the newest.
	Version     uint64  `json:"version,omitempty"`
	Other       uint64  `json:"other,omitempty"`
	OtherWeight float64 `json:"other_weight,omitempty"`
	Description string  `json:"description,omitempty"`
}

// WarmRequest asks for instances of a version before calls go to it.
type WarmRequest struct {
	// Alias whose versions the version is to stand in for; default "live". As many
	// nodes are warmed up as those are warm on, and at least one.
	Alias string `json:"alias,omitempty"`
	// Instances on each node; 0 means as many as it has of the alias's versions. No
	// node gets more than its share of the version's max.
	Instances int `json:"instances,omitempty"`
	// Nodes are those of the report before, in a request that is repeated: without
	// them they would be chosen anew.
	Nodes []WarmNode `json:"nodes,omitempty"`
}

// WarmReport tells how far a warm-up is.
type WarmReport struct {
	Version uint64 `json:"version"`
	// Ready says that every node has what it should, Failed that one will not get there.
	Ready  bool       `json:"ready"`
	Failed bool       `json:"failed,omitempty"`
	Nodes  []WarmNode `json:"nodes"`
}

// WarmNode is one node of a warm-up.
type WarmNode struct {
	Node string `json:"node"`
	Name string `json:"name,omitempty"`
	// Wanted instances of which some are Ready and others Starting.
	Wanted   int `json:"wanted"`
	Ready    int `json:"ready"`
	Starting int `json:"starting,omitempty"`
	// Problem says why there are fewer than wanted; with Failed it will not pass.
	Problem string `json:"problem,omitempty"`
	Failed  bool   `json:"failed,omitempty"`
}

// RollbackRequest moves an alias back.
type RollbackRequest struct {
	// Alias to move; default "live".
	Alias string `json:"alias,omitempty"`
	// Version to go to; 0 means the newest one older than the alias names now.
	Version uint64 `json:"version,omitempty"`
}

// Function is a function with what its aliases point to.
type Function struct {
	App  string `json:"app"`
	Name string `json:"name"`
	// Latest is the newest version's number, Versions how many there are.
	Latest   uint64    `json:"latest"`
	Live     uint64    `json:"live"`
	Versions int       `json:"versions"`
	Updated  time.Time `json:"updated"`
	Aliases  []Alias   `json:"aliases,omitempty"`
	// Current is what an unqualified call runs; only in a description.
	Current *Version `json:"current,omitempty"`
	// Placements are the nodes that have instances now; only in a description.
	Placements []Placement `json:"placements,omitempty"`
	// Shares are how reserved concurrency is cut; only in a description.
	Shares []Share `json:"shares,omitempty"`
}

// Share is a node's part of a function's reserved concurrency.
type Share struct {
	Node string `json:"node"`
	Name string `json:"name"`
	// Share is how many calls may run there at once.
	Share int `json:"share"`
	// Withheld is what the node had beyond that and may still use: nobody else gets
	// it until the node says so, or until calls that began there must be over.
	Withheld int `json:"withheld,omitempty"`
}

// Placement is what a node does for a function now.
type Placement struct {
	Node    string `json:"node"`
	Name    string `json:"name"`
	Sandbox string `json:"sandbox"`
	Load
}

// Load is how busy one version is on one node.
type Load struct {
	App       string `json:"app"`
	Function  string `json:"function"`
	Version   uint64 `json:"version"`
	Instances int    `json:"instances"`
	Starting  int    `json:"starting"`
	InFlight  int    `json:"in_flight"`
	Queued    int    `json:"queued"`
	// Problem says why instances do not start, such as a crash loop.
	Problem string `json:"problem,omitempty"`
}

// Upload is the answer to an upload of code.
type Upload struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}
