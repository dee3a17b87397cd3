package group

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Stats describes this node's member of the group.
type Stats struct {
	State       string // "Leader", "Follower", "Candidate" or "Shutdown"
	Role        Role
	Leader      NodeID
	LeaderAddr  string
	Term        uint64
	Last        Index // the last entry in the log or snapshot
	Commit      Index
	Applied     Index
	Snapshot    Index         // of the newest snapshot; 0 if there is none
	LastContact time.Duration // since the leader was heard; 0 on the leader, -1 for never
	InFlight    int           // proposals
	DiskFree    int64
	DiskLow     bool
	Members     []Member
}

// Stats returns a description that was true a moment ago. It never waits for Raft.
func (g *Group) Stats() Stats {
	leader, addr := g.Leader()
	s := Stats{
		State:       g.raft.State().String(),
		Role:        g.RoleOf(g.cfg.ID),
		Leader:      leader,
		LeaderAddr:  addr,
		Term:        g.raft.CurrentTerm(),
		Last:        Index(g.raft.LastIndex()),
		Commit:      Index(g.raft.CommitIndex()),
		Applied:     g.Applied(),
		LastContact: g.lastContact(),
		InFlight:    len(g.proposals) + len(g.system),
		DiskFree:    g.watch.free.Load(),
		DiskLow:     g.watch.low.Load(),
		Members:     g.Members(),
	}
	if meta, err := g.snapshots.newest(); err == nil && meta != nil {
		s.Snapshot = Index(meta.Index)
	}
	return s
}

// lastContact returns 0 on the leader and -1 if no leader was ever heard.
func (g *Group) lastContact() time.Duration {
	if g.raft.State() == raft.Leader {
		return 0
	}
	last := g.raft.LastContact()
	if last.IsZero() {
		return -1
	}
	return time.Since(last)
}

// gauges are read at scrape time. The watch is missing while Open is at work.
func (g *Group) gauges() map[string]func() float64 {
	return map[string]func() float64{
		"proposals_in_flight": func() float64 { return float64(len(g.proposals) + len(g.system)) },
		"proposals_limit":     func() float64 { return float64(cap(g.proposals)) },
		"reads_in_flight":     func() float64 { return float64(len(g.reads)) },
		"applied_index":       func() float64 { return float64(g.Applied()) },
		"disk_free_bytes": func() float64 {
			if g.watch == nil {
				return 0
			}
			return float64(g.watch.free.Load())
		},
		"log_write_hanging_seconds": func() float64 {
			if g.watch == nil {
				return 0
			}
			return g.watch.stalled().Seconds()
		},
	}
}

// health is what a member tells the leader about itself: 24 bytes on the wire,
// answered to each byte received.
type health struct {
	lastContact time.Duration
	lastTerm    uint64
	lastIndex   uint64
}

// healthSize is the length of an encoded health.
const healthSize = 24

// encode writes three little-endian words.
func (h health) encode() []byte {
	b := make([]byte, 0, healthSize)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.lastContact))
	b = binary.LittleEndian.AppendUint64(b, h.lastTerm)
	return binary.LittleEndian.AppendUint64(b, h.lastIndex)
}

// decodeHealth undoes encode; b holds healthSize bytes.
func decodeHealth(b []byte) health {
	return health{
		lastContact: time.Duration(binary.LittleEndian.Uint64(b)),
		lastTerm:    binary.LittleEndian.Uint64(b[8:]),
		lastIndex:   binary.LittleEndian.Uint64(b[16:]),
	}
}

// health reads nothing from disk: a stalled one must not look like a lost link.
func (g *Group) health() health {
	// The library tells the last entry's term here only. Its own text: never wrong.
	term, _ := strconv.ParseUint(g.raft.Stats()["last_log_term"], 10, 64)
	return health{lastContact: g.lastContact(), lastTerm: term, lastIndex: g.raft.LastIndex()}
}

// serveStats answers the leader. It ends when the listener is closed, and with it
// every connection.
func (g *Group) serveStats(ctx context.Context, l net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	// A leader and perhaps the last one; more are refused.
	slots := make(chan struct{}, 8)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a request for health: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-slots; _ = c.Close() }()
			g.answerHealth(c)
		})
	}
}

// answerHealth ends when the leader goes away or falls silent.
func (g *Group) answerHealth(c net.Conn) {
	var ask [1]byte
	for {
		// An idle leader asks every Health; ten times that without is an old one.
		if err := c.SetDeadline(time.Now().Add(10*g.cfg.Timings.Health + time.Second)); err != nil {
			return
		}
		if _, err := io.ReadFull(c, ask[:]); err != nil {
			return
		}
		if _, err := c.Write(g.health().encode()); err != nil {
			return
		}
	}
}
