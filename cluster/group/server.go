package group

import "fmt"

// NodeID identifies a node for ever. It is the text that certificates carry and
// the id of the node in every Raft group.
type NodeID string

// Index is a position in a group's log. The first entry has index 1.
type Index uint64

// Role is a node's part in a group.
type Role uint8

// The roles of a node. An observer is no Raft member: it follows the feed.
const (
	Observer Role = iota
	Standby
	Voter
)

// String returns the role's name in lower case.
func (r Role) String() string {
	switch r {
	case Observer:
		return "observer"
	case Standby:
		return "standby"
	case Voter:
		return "voter"
	default:
		return fmt.Sprintf("role(%d)", uint8(r))
	}
}

// Server is a node as the group's owner knows it, from replicated state and never
// from gossip.
type Server struct {
	// ID names the node.
	ID NodeID
	// Addr is the node's peer address, host:port.
	Addr string
	// Avoid says that the node should hold no role: it is draining or leaving.
	// It keeps the one it has until another healthy node can take its place.
	Avoid bool
}

// Change is one change of a node's role that the leader is about to make or has
// made.
type Change struct {
	Server Server
	From   Role
	To     Role
}

// Member is a server of the group's Raft configuration.
type Member struct {
	ID   NodeID
	Addr string
	Role Role
}
