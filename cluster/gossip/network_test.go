package gossip

import (
	"context"
	"errors"
	"log"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// packetHeaders and segmentHeaders are what IPv4 adds to a UDP packet, and, with
	// TCP and its handshake spread over it, to each write of a stream.
	packetHeaders  = 28
	segmentHeaders = 40
	// inboxMax is how many packets wait for a member before more are dropped, as a
	// socket's buffer would.
	inboxMax = 4096
)

// network carries packets and streams between members in one process. Loss and
// delay apply to packets; streams, being TCP, lose nothing.
type network struct {
	// loss is the share of packets that vanish, in thousandths.
	loss atomic.Int64
	// delay is how long a packet is under way.
	delay time.Duration

	mu    sync.Mutex
	rand  *rand.Rand // Decides which packets vanish.
	ports map[string]*port
}

func newNetwork(seed uint64, delay time.Duration) *network {
	return &network{delay: delay, rand: rand.New(rand.NewPCG(seed, 1)), ports: map[string]*port{}}
}

func (n *network) loses() bool {
	loss := n.loss.Load()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rand.Int64N(1000) < loss
}

func (n *network) port(address string) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[address]
}

// port is one member's end of the network.
type port struct {
	net     *network
	host    string
	number  int
	packets chan *memberlist.Packet // A socket's buffer.
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once

	sent   atomic.Int64 // Bytes sent with headers, packets and streams.
	stream atomic.Int64 // Those of streams only.
	lost   atomic.Int64 // Packets that found the buffer full.
	// frozen is the time, in Unix nanoseconds, until which the member does not run.
	frozen atomic.Int64
}

var _ memberlist.NodeAwareTransport = (*port)(nil)

// listen is a Config's listen.
func (n *network) listen(_ context.Context, host string, number int, _ *log.Logger) (memberlist.NodeAwareTransport, int, error) {
	p := &port{
		net: n, host: host, number: number, done: make(chan struct{}),
		packets: make(chan *memberlist.Packet, inboxMax), streams: make(chan net.Conn),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[p.String()] != nil {
		return nil, 0, errors.New("address in use")
	}
	n.ports[p.String()] = p
	return p, number, nil
}

// String and Network make a port a net.Addr.
func (p *port) String() string { return net.JoinHostPort(p.host, strconv.Itoa(p.number)) }

func (p *port) Network() string { return "memory" }

func (p *port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.ParseIP(p.host), p.number, nil
}

// thaw waits until the member runs again.
func (p *port) thaw() {
	if wait := time.Until(time.Unix(0, p.frozen.Load())); wait > 0 {
		select {
		case <-time.After(wait):
		case <-p.done:
		}
	}
}

func (p *port) WriteTo(b []byte, address string) (time.Time, error) {
	p.thaw()
	now := time.Now()
	p.sent.Add(int64(len(b)) + packetHeaders)
	to := p.net.port(address)
	if to == nil || p.net.loses() {
		return now, nil
	}
	packet := &memberlist.Packet{Buf: append([]byte(nil), b...), From: p}
	wait := max(p.net.delay, time.Until(time.Unix(0, to.frozen.Load())))
	if wait <= 0 {
		to.deliver(packet)
	} else {
		time.AfterFunc(wait, func() { to.deliver(packet) })
	}
	return now, nil
}

func (p *port) deliver(packet *memberlist.Packet) {
	packet.Timestamp = time.Now()
	select {
	case p.packets <- packet:
	default:
		p.lost.Add(1)
	}
}

func (p *port) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return p.WriteTo(b, a.Addr)
}

func (p *port) PacketCh() <-chan *memberlist.Packet { return p.packets }

func (p *port) StreamCh() <-chan net.Conn { return p.streams }

func (p *port) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	p.thaw()
	to := p.net.port(address)
	if to == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case to.streams <- countingConn{there, to}:
		return countingConn{here, p}, nil
	case <-to.done:
	case <-p.done:
	case <-timer.C:
	}
	return nil, errors.Join(errors.New("no connection"), here.Close(), there.Close())
}

func (p *port) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return p.DialTimeout(a.Addr, timeout)
}

func (p *port) Shutdown() error {
	p.once.Do(func() {
		p.net.mu.Lock()
		delete(p.net.ports, p.String())
		p.net.mu.Unlock()
		close(p.done)
	})
	return nil
}

// countingConn counts what its end sends.
type countingConn struct {
	net.Conn
	port *port
}

func (c countingConn) Write(b []byte) (int, error) {
	c.port.thaw()
	// A segment carries about 1,400 bytes.
	size := int64(len(b)) + segmentHeaders*int64(1+len(b)/1400)
	c.port.sent.Add(size)
	c.port.stream.Add(size)
	return c.Conn.Write(b)
}

func (c countingConn) RemoteAddr() net.Addr { return c.port }
