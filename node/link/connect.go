package link

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// The versions of what this package adds to frames: the heads of calls and
// answers. A node speaks the greatest that both sides do.
const (
	versionLeast    = 1
	versionGreatest = 1
)

// errIdle ends a connection that carried no call for long.
var errIdle = errors.New("connection was idle")

// greeting is this node's HELLO.
func (l *Link) greeting() *frame.Greeting {
	return &frame.Greeting{
		Least: versionLeast, Greatest: versionGreatest,
		Window: frame.DefaultWindow, MaxBody: uint64(l.cfg.BodyMax), Agent: "covey-node",
	}
}

// agree reads the other side's HELLO and returns the version to speak.
func agree(head []byte) (uint32, error) {
	var g frame.Greeting
	if err := g.Parse(head); err != nil {
		return 0, fmt.Errorf("read HELLO: %w", err)
	}
	version := min(g.Greatest, versionGreatest)
	if version < max(g.Least, versionLeast) {
		return 0, fmt.Errorf("peer speaks link versions %d to %d, this node %d to %d",
			g.Least, g.Greatest, versionLeast, versionGreatest)
	}
	return version, nil
}

// conn is one connection that this node made.
type conn struct {
	*frame.Session
	draining atomic.Bool
	greeted  chan struct{}
	ended    chan error // has room for the one value
}

// closed reports that the session has ended, before the goroutine that keeps it
// has noticed.
func (c *conn) closed() bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

// connect dials and exchanges HELLO.
func (p *peer) connect() (*conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.link.cfg.ConnectTimeout)
	defer cancel()
	nc, err := p.link.cfg.Dial(ctx, p.id)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := &conn{greeted: make(chan struct{}), ended: make(chan error, 1)}
	c.Session = frame.NewSession(nc, frame.SessionConfig{
		Control: func(h frame.Header, payload []byte) error { return p.control(c, h, payload) },
		MaxBody: p.link.cfg.BodyMax,
		Pool:    &p.link.pool,
	})
	if !p.link.spawn(func() { c.ended <- c.Run() }) {
		_ = nc.Close()
		return nil, ErrClosed
	}
	// Sending may wait for a peer that accepts and does not read.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.Send(frame.Hello, p.link.greeting(), nil); err != nil {
		_ = c.Close()
		return nil, errors.Join(fmt.Errorf("greet: %w", err), <-c.ended)
	}
	select {
	case <-c.greeted:
		return c, nil
	case err := <-c.ended:
		if err == nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("greet: %w", err)
	}
}

// control takes what the other side says beside calls. It runs on the reading
// goroutine and must not wait.
func (p *peer) control(c *conn, h frame.Header, payload []byte) error {
	switch h.Type {
	case frame.Hello:
		if _, err := agree(payload[:h.Head]); err != nil {
			return err
		}
		select {
		case <-c.greeted:
			return fmt.Errorf("%w: second HELLO", frame.ErrProtocol)
		default:
			close(c.greeted)
		}
	case frame.Drain:
		c.draining.Store(true)
		p.noteChange()
	case frame.Ready:
		c.draining.Store(false)
		p.noteChange()
	}
	return nil
}

// noteChange lets a slot's goroutine report.
func (p *peer) noteChange() {
	select {
	case p.changed <- struct{}{}:
	default: // a report is due already, and will see the latest
	}
}

// quietTicks is how many checks a connection without calls skips.
const quietTicks = 15

// watch waits until the connection ends and returns why. Meanwhile it checks
// that the other side answers: a peer that vanished closes nothing.
func (p *peer) watch(c *conn) error {
	tick := time.NewTicker(p.link.cfg.PingEvery)
	defer tick.Stop()
	for ticks := 1; ; ticks++ {
		select {
		case err := <-c.ended:
			return err
		case <-p.ctx.Done():
			_ = c.Close()
			return <-c.ended
		case <-p.changed:
			p.mu.Lock()
			p.signalLocked()
			p.mu.Unlock()
			p.report()
			continue
		case <-tick.C:
		}
		if p.idle() {
			_ = c.Close()
			<-c.ended
			return errIdle
		}
		if p.inFlight.Load() == 0 && ticks%quietTicks != 0 {
			continue
		}
		if err := p.ping(c); err != nil {
			_ = c.Close()
			<-c.ended
			return err
		}
	}
}

// idle reports whether no call was open for long.
func (p *peer) idle() bool {
	last := time.Unix(0, p.lastCall.Load())
	return p.inFlight.Load() == 0 && time.Since(last) > p.link.cfg.IdleAfter
}

// ping asks for a sign of life on c.
func (p *peer) ping(c *conn) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.link.cfg.PingTimeout)
	defer cancel()
	answer, err := c.Call(ctx, frame.HostCallRequest, &frame.HostRequest{Op: opPing}, nil)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	answer.Release()
	return nil
}

// openLane makes a connection for large bodies. Versions were agreed on the
// connections that were there before, so it does not wait for the HELLO.
func (p *peer) openLane(ctx context.Context) (*frame.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, p.link.cfg.ConnectTimeout)
	defer cancel()
	nc, err := p.link.cfg.Dial(ctx, p.id)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	s := frame.NewSession(nc, frame.SessionConfig{
		Lane: true, MaxBody: p.link.cfg.BodyMax, Pool: &p.link.pool,
	})
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	err = s.Send(frame.Hello, p.link.greeting(), nil)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("greet: %w", err)
	}
	return s, nil
}
