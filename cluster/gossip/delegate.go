package gossip

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"
)

// delegate is what memberlist calls. Its methods run under memberlist's lock or
// in its packet loop: they copy, note and signal, and never block or call back.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.AliveDelegate = delegate{}
)

// NodeMeta returns what others are told about this node. Too long a description
// is cut to the addresses, which are what others need.
func (d delegate) NodeMeta(limit int) []byte {
	meta := d.g.Meta()
	for _, cut := range []func(){
		func() {},
		func() { meta.Runtimes = nil },
		func() { meta.Name = "" },
	} {
		cut()
		if data, err := proto.Marshal(meta); err == nil && len(data) <= limit {
			return data
		}
	}
	return nil
}

// NotifyMsg takes a change of a warm set and passes news on: memberlist itself
// sends a user broadcast only one hop far.
func (d delegate) NotifyMsg(data []byte) {
	m := &clusterpb.GossipWarm{}
	if err := proto.Unmarshal(data, m); err != nil || !validNode(m.GetNode()) {
		return
	}
	if d.g.cfg.Admit(state.NodeID(m.GetNode())) != nil {
		return
	}
	if d.g.warm.apply(m) {
		d.g.broadcast(m)
		d.g.wake()
	}
}

// GetBroadcasts returns queued changes of warm sets.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.g.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns all warm sets that we know of, so that a node that has just
// joined learns everything from whomever it called.
func (d delegate) LocalState(join bool) []byte { return d.g.warm.encode(join) }

// MergeRemoteState takes the warm sets that another node knows of.
func (d delegate) MergeRemoteState(data []byte, _ bool) {
	m := &clusterpb.GossipState{}
	if err := proto.Unmarshal(data, m); err != nil {
		return
	}
	for _, set := range m.GetSets() {
		if validNode(set.GetNode()) && d.g.cfg.Admit(state.NodeID(set.GetNode())) == nil {
			d.g.warm.merge(set)
		}
	}
	d.g.wake()
}

// NotifyAlive refuses names that are not ours to know and removed nodes.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	id, _, err := parseName(n.Name)
	if err != nil {
		return err
	}
	return d.g.cfg.Admit(id)
}

// NotifyJoin notes a node that answers.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.note(n, true) }

// NotifyUpdate notes new metadata.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.note(n, true) }

// NotifyLeave notes a node that left or died.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.note(n, false) }

func (d delegate) note(n *memberlist.Node, alive bool) {
	id, boot, err := parseName(n.Name)
	if err != nil {
		return
	}
	meta := &clusterpb.GossipMeta{}
	if err := proto.Unmarshal(n.Meta, meta); err != nil {
		meta = &clusterpb.GossipMeta{}
	}
	d.g.note(Peer{
		ID: id, Boot: boot, Meta: meta, Alive: alive,
		Address: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
	})
}

// validNode keeps text out of the tables that could not be an id.
func validNode(id string) bool {
	return id != "" && len(id) <= 64 && utf8.ValidString(id)
}

// nodeName returns the name that memberlist knows a node's boot by.
func nodeName(id state.NodeID, boot uint64) string {
	return string(id) + "." + strconv.FormatUint(boot, 10)
}

// parseName reads what nodeName wrote.
func parseName(name string) (state.NodeID, uint64, error) {
	id, text, ok := strings.Cut(name, ".")
	boot, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil || !validNode(id) {
		return "", 0, fmt.Errorf("gossip name %q is not <node>.<boot>", name)
	}
	return state.NodeID(id), boot, nil
}

// warmBroadcast is one queued change. A later one for the same function does not
// replace it: those who never saw it would have a gap. It is "unique" for
// memberlist, which otherwise compares each new one with the whole queue.
type warmBroadcast []byte

var _ memberlist.UniqueBroadcast = warmBroadcast{}

func (b warmBroadcast) Invalidates(memberlist.Broadcast) bool { return false }

func (b warmBroadcast) Message() []byte { return b }

func (b warmBroadcast) Finished() {}

func (b warmBroadcast) UniqueBroadcast() {}
