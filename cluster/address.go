package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/covey-dev/covey/cluster/gossip"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// Advertised returns the address that others are told for a port that is bound at
// bound.
func (e Endpoint) Advertised(bound net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", fmt.Errorf("advertise %s: %w", bound, err)
	}
	wantHost, wantPort, err := e.wanted()
	if err != nil {
		return "", err
	}
	if wantPort != "" && wantPort != "0" {
		port = wantPort
	}
	if wantHost != "" {
		host = wantHost
	} else if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = machineAddress()
	}
	return net.JoinHostPort(host, port), nil
}

// advertisedUnbound is Advertised for a port that somebody else will bind: the
// port stays 0 if it is not given.
func (e Endpoint) advertisedUnbound() (string, error) {
	addr, err := net.ResolveTCPAddr("tcp", e.Bind)
	if err != nil {
		return "", fmt.Errorf("bind %s: %w", e.Bind, err)
	}
	return e.Advertised(addr)
}

// wanted takes Advertise apart; the port may be absent.
func (e Endpoint) wanted() (host, port string, err error) {
	if e.Advertise == "" {
		return "", "", nil
	}
	host, port, err = net.SplitHostPort(e.Advertise)
	if addrErr, ok := errors.AsType[*net.AddrError](err); ok && addrErr.Err == "missing port in address" {
		return e.Advertise, "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("advertise %s: %w", e.Advertise, err)
	}
	return host, port, nil
}

// machineAddress returns an address of this machine that others can most likely
// reach: a private one, else any global one, else loopback.
func machineAddress() string {
	found := "127.0.0.1"
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return found
	}
	for _, a := range addrs {
		ipnet, ok := a.(*net.IPNet)
		if !ok || !ipnet.IP.IsGlobalUnicast() {
			continue
		}
		if ipnet.IP.IsPrivate() && ipnet.IP.To4() != nil {
			return ipnet.IP.String()
		}
		if found == "127.0.0.1" {
			found = ipnet.IP.String()
		}
	}
	return found
}

// tls returns the base of every handshake on the peer port.
func (c *Cluster) tls() *tls.Config { return c.creds.TLS(c.cfg.Clock.Now) }

// identify names the node behind a certificate, and refuses removed ones.
func (c *Cluster) identify(leaf *x509.Certificate) (group.NodeID, error) {
	node, err := c.creds.Identify(leaf)
	if err != nil {
		return "", err
	}
	return group.NodeID(node), c.admit(node)
}

// admit refuses removed nodes. Others are welcome even if this node has not
// heard of them yet: the authority signed for them, and the state may lag.
func (c *Cluster) admit(node state.NodeID) error {
	if c.machine.View().Removed(node) {
		return fmt.Errorf("node %s: %w", node, ErrRemoved)
	}
	return nil
}

// Dial connects to another node under a protocol. The connection is mutually
// authenticated and leads to that node and no other; whatever address gossip
// hinted at, another machine there is refused.
func (c *Cluster) Dial(ctx context.Context, node state.NodeID, proto string) (net.Conn, error) {
	if err := c.admit(node); err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	addresses := c.addresses(node)
	if len(addresses) == 0 {
		return nil, fmt.Errorf("dial node %s: %w", node, ErrUnknownNode)
	}
	var errs []error
	for _, address := range addresses {
		conn, err := c.mux.Dial(ctx, address, proto, group.NodeID(node))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("dial node %s: %w: %w", node, ErrUnreachable, errors.Join(errs...))
}

// addresses returns where a node may be reached, best guess first: what it says
// of itself in gossip, what the state recorded, where it was seen last.
func (c *Cluster) addresses(node state.NodeID) []string {
	var found []string
	add := func(address string) {
		for _, a := range found {
			if a == address {
				return
			}
		}
		if address != "" {
			found = append(found, address)
		}
	}
	if p, ok := c.gossip.Peer(node); ok {
		add(p.Meta.GetPeerAddress())
	}
	if m := c.View().Member(node); m != nil {
		add(m.PeerAddress)
	}
	for _, p := range c.dir.peers() {
		if p.ID == node {
			add(p.Peer)
		}
	}
	return found
}

// addressBook is the list of servers for Raft, which asks for it often.
type addressBook struct {
	view    *state.View
	gossip  uint64
	servers []group.Server
}

// servers returns the members as Raft may use them. Who is a member comes from
// the state alone; gossip may only know a newer address.
func (c *Cluster) servers() []group.Server {
	view, generation := c.View(), c.gossip.Generation()
	if b := c.book.Load(); b != nil && b.view == view && b.gossip == generation {
		return b.servers
	}
	peers := c.gossip.Peers()
	members := view.Members()
	servers := make([]group.Server, 0, len(members))
	for _, m := range members {
		addr := peerAddress(m, peers)
		if m.ID == c.id.ID {
			addr = c.peerAddress
		}
		servers = append(servers, group.Server{ID: group.NodeID(m.ID), Addr: addr, Avoid: m.Draining || addr == ""})
	}
	c.book.Store(&addressBook{view: view, gossip: generation, servers: servers})
	return servers
}

// peerAddress returns where a member is most likely reached.
func peerAddress(m *state.Member, peers map[state.NodeID]gossip.Peer) string {
	if p, ok := peers[m.ID]; ok && p.Meta.GetPeerAddress() != "" {
		return p.Meta.GetPeerAddress()
	}
	return m.PeerAddress
}

// knownGossip returns the gossip addresses of all members, for rejoining: what the
// state recorded, and where they were last heard of, which may be newer.
func (c *Cluster) knownGossip() map[state.NodeID][]string {
	known := map[state.NodeID][]string{}
	for _, m := range c.View().Members() {
		if m.GossipAddress != "" {
			known[m.ID] = append(known[m.ID], m.GossipAddress)
		}
	}
	for _, p := range c.dir.peers() {
		if p.Gossip != "" && !slices.Contains(known[p.ID], p.Gossip) {
			known[p.ID] = append(known[p.ID], p.Gossip)
		}
	}
	return known
}
