package ledger

import (
	"strconv"
	"time"
)

const (
	// File is the name of the ledger in an instance's private directory, which is
	// the instance's HOME.
	File = "ledger"
	// ReleaseFile is what calls with OpHold wait for, in the same directory. The
	// test makes it from outside.
	ReleaseFile = "release"
	// LinePrefix starts a line of the function's log that holds an Execution.
	LinePrefix = "ledger "
)

// The operations of the function.
const (
	// OpNote waits for HoldMS and answers with the Execution.
	OpNote = "note"
	// OpStay waits for HoldMS, whether or not anybody waits for the answer, which is
	// the Execution.
	OpStay = "stay"
	// OpHold waits for ReleaseFile and answers with the Execution.
	OpHold = "hold"
	// OpOrphan leaves a process behind that does all it can to survive, with
	// Marker in its command line, and answers once it runs.
	OpOrphan = "orphan"
	// OpSpy looks for Secrets in what the instance can read, and answers with a
	// Report.
	OpSpy = "spy"
)

// Order is the input of the function.
type Order struct {
	Op     string `json:"op"`
	HoldMS int64  `json:"hold_ms,omitempty"`
	Marker string `json:"marker,omitempty"`
	// Paths are files to read, directories to list and sockets to connect to.
	Paths []string `json:"paths,omitempty"`
	// Secrets are texts that must not be found anywhere.
	Secrets []string `json:"secrets,omitempty"`
}

// Execution is one execution of the function. Instance and Number name it.
type Execution struct {
	// Instance is a random name that the process gives itself; Number counts its
	// executions from 1.
	Instance  string    `json:"instance"`
	Number    int64     `json:"number"`
	Pid       int       `json:"pid"`
	Node      string    `json:"node"`
	Function  string    `json:"function"`
	RequestID string    `json:"request_id"`
	Attempt   int       `json:"attempt"`
	Began     time.Time `json:"began"`
}

// Name names the execution among all.
func (e Execution) Name() string { return e.Instance + "/" + strconv.FormatInt(e.Number, 10) }

// Report is what a spy found.
type Report struct {
	Execution Execution `json:"execution"`
	// Reached are the paths of the order that could be read, listed or connected to.
	Reached []string `json:"reached,omitempty"`
	// Listed is what those of them have that are directories.
	Listed map[string][]string `json:"listed,omitempty"`
	// Found says where secrets were found.
	Found []string `json:"found,omitempty"`
	// Files and Processes count what was looked at, to show that it looked.
	Files     int `json:"files"`
	Processes int `json:"processes"`
	UID       int `json:"uid"`
	// Home is the private directory.
	Home string `json:"home"`
}
