// Package gossip spreads hints between the nodes of a cluster: who answers, at
// which addresses, and where which function is warm. It is the one home of
// memberlist; it is a package of its own so that nothing else links against it.
//
// Gossip is never asked about anything privileged. Whoever holds the gossip key
// could claim to be any node, so its word decides only whom to try first; every
// connection then authenticates itself, and membership and roles come from the
// replicated state.
//
// A node is called "<node id>.<boot>" because memberlist refuses a living name
// at a new address. Of one id the highest boot counts, so a node that was killed
// and came back elsewhere is known at once. The cluster's id is memberlist's
// label: packets of another cluster are refused before they are read.
//
// A memberlist that lost everybody stays alone. Run therefore calls known
// members that are not seen alive again and again.
package gossip
