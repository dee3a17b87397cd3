package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
	"github.com/rs/zerolog"
)

// Hello is what an instance said about itself before READY.
type Hello = frame.Greeting

// Setup is the function that a runtime's process is to become.
type Setup = frame.Setup

// FD is the descriptor on which an instance finds its end of the data plane.
const FD = 3

const (
	// defaultMaxBody is Lambda's limit of a synchronous call.
	defaultMaxBody = 6 << 20
	// laneBody is the least body that leaves the shared connection. Below it copying is cheaper than
	// handing the call to another connection.
	laneBody = 32 << 10
	// maxHostCalls bounds the host calls that one instance may have running.
	maxHostCalls = 64
	agent        = "covey-node/1"
)

// ConnConfig configures a Conn. Its zero value is usable, without host calls.
type ConnConfig struct {
	// Logger gets debug events about the protocol only.
	Logger zerolog.Logger
	// Host serves the function's host calls. Nil refuses them.
	Host HostHandler
	// MaxBody is the largest request or unstreamed reply in bytes. Default 6 MiB.
	MaxBody int
	// MaxLanes bounds the further connections for large bodies. Default 8; a call that finds none free
	// shares the first connection.
	MaxLanes int
	// Pool supplies buffers and should be shared by all Conns of a node. Nil makes one.
	Pool *frame.Pool
}

// Conn is the node's end of the data plane to one instance. Its methods are safe for concurrent use.
//
// To tell exactly which calls started, end the process first and let Done close before Close.
type Conn struct {
	cfg     ConnConfig
	session *frame.Session
	lanes   *frame.Lanes
	wg      sync.WaitGroup
	ready   chan struct{} // closed by READY
	closed  atomic.Bool   // Close was called

	mu      sync.Mutex
	hello   Hello
	greeted bool
	initErr error // why READY will never come
	drained bool
}

// Pair makes the two ends of a data plane: the connection for NewConn, and the file that the process
// inherits as descriptor 3. The caller closes the file once the process has started.
func Pair() (*net.UnixConn, *os.File, error) { return frame.SocketPair() }

// NewConn takes over c, greets the instance and starts reading. Close must be called in the end.
func NewConn(c *net.UnixConn, cfg ConnConfig) *Conn {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.Pool == nil {
		cfg.Pool = new(frame.Pool)
	}
	conn := &Conn{cfg: cfg, ready: make(chan struct{})}
	conn.lanes = frame.NewLanes(frame.LanesConfig{Open: conn.openLane, Max: cfg.MaxLanes})
	config := conn.sessionConfig()
	config.Control = conn.control
	conn.session = newSession(c, config)
	// HELLO comes before any call. If it cannot be sent, the session ends with the reason.
	_ = conn.session.Send(frame.Hello, &frame.Greeting{
		Least: frame.ProtocolVersion, Greatest: frame.ProtocolVersion,
		Window: frame.DefaultWindow, MaxBody: uint64(cfg.MaxBody), Agent: agent,
	}, nil)
	conn.wg.Go(conn.run)
	return conn
}

func (c *Conn) sessionConfig() frame.SessionConfig {
	config := frame.SessionConfig{MaxBody: c.cfg.MaxBody, MaxIncoming: maxHostCalls, Pool: c.cfg.Pool}
	if c.cfg.Host != nil {
		config.Handler = c.serveHostCall
	}
	return config
}

// run reads the first connection until it ends.
func (c *Conn) run() {
	err := c.session.Run()
	c.cfg.Logger.Debug().Err(err).Msg("data plane ended")
}

// control handles the frames that belong to no call.
func (c *Conn) control(h frame.Header, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch h.Type {
	case frame.Hello:
		return c.greetLocked(h, payload)
	case frame.Ready:
		if !c.greeted || isClosed(c.ready) {
			return fmt.Errorf("%w: READY out of order", frame.ErrProtocol)
		}
		close(c.ready)
	case frame.Drain:
		c.drained = true
	case frame.ErrorReply:
		var f frame.Failure
		if err := f.Parse(payload[h.Head:]); err != nil {
			return err
		}
		if !isClosed(c.ready) && c.initErr == nil {
			c.initErr = &InitError{Type: f.Type, Message: f.Message, Stack: f.Stack}
		}
		return fmt.Errorf("instance gave up: %w", &f)
	}
	return nil
}

func (c *Conn) greetLocked(h frame.Header, payload []byte) error {
	if c.greeted || h.Flags&frame.FlagLane != 0 {
		return fmt.Errorf("%w: HELLO out of order", frame.ErrProtocol)
	}
	if err := c.hello.Parse(payload[:h.Head]); err != nil {
		return err
	}
	if _, err := c.hello.Negotiate(); err != nil {
		c.initErr = &InitError{Type: "IncompatibleSDK", Message: err.Error()}
		return err
	}
	c.greeted = true
	c.session.SetPeerWindow(int(c.hello.Window))
	return nil
}

// Setup tells a runtime's process which function it is to become. It is sent once, before any call, and does
// not wait for the process. Processes of functions that were built with an SDK need none.
func (c *Conn) Setup(s *Setup) error {
	return c.session.Send(frame.SetupFrame, nil, s.AppendTo(nil))
}

// Ready waits until the instance is ready for calls. It fails with *InitError when initialisation failed
// and with *ExitError (both wrap ErrNotStarted) when the process went away first.
func (c *Conn) Ready(ctx context.Context) (Hello, error) {
	select {
	case <-c.ready:
	case <-c.session.Done():
		// Both may be closed; READY came first then.
		if !isClosed(c.ready) {
			return Hello{}, c.beforeReady(c.session.Err())
		}
	case <-ctx.Done():
		return Hello{}, fmt.Errorf("wait for READY: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello, nil
}

// Invoke runs one call. It may be called before Ready: the call then waits in the socket and the instance
// reads it once it is ready, which spares a cold start one wake-up; if the instance dies first, the error
// wraps ErrNotStarted. call.Remaining is lowered to ctx's deadline if it has one. When ctx ends the instance
// is told to cancel and a *CanceledError is returned, but the instance may still be busy with the call.
func (c *Conn) Invoke(ctx context.Context, call *Call) (*Reply, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); call.Remaining == 0 || left < call.Remaining {
			call.Remaining = left
		}
	}
	session, lane := c.session, (*frame.Session)(nil)
	if len(call.Body) >= laneBody && c.takesLanes() {
		var err error
		if lane, err = c.lanes.Get(ctx); err != nil {
			return nil, c.callError(ctx, fmt.Errorf("%w: %w", ErrNotStarted, err))
		}
		if lane != nil {
			session = lane
		}
	}
	answer, err := session.Call(ctx, frame.InvokeCall, &call.Invoke, call.Body)
	if err == nil && answer.Stream != nil {
		return c.streamed(answer, lane)
	}
	if lane != nil {
		c.lanes.Put(lane)
	}
	if err != nil {
		return nil, c.callError(ctx, err)
	}
	reply := &Reply{answer: answer, Body: answer.Body}
	if err := answerError(&answer, &reply.Result); err != nil {
		answer.Release()
		return nil, err
	}
	return reply, nil
}

// takesLanes reports whether a large body may leave the first connection. Until its HELLO nobody knows what the instance
// can, and nothing else is on the first connection yet.
func (c *Conn) takesLanes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.greeted && c.hello.Attributes.Get(frame.LanesAttribute) != frame.NoLanes
}

// openLane makes a connection and hands its other end to the instance.
func (c *Conn) openLane(context.Context) (*frame.Session, error) {
	conn, file, err := frame.SocketPair()
	if err != nil {
		return nil, err
	}
	if err := c.session.SendLane(file); err != nil {
		_ = conn.Close()
		return nil, err
	}
	config := c.sessionConfig()
	config.Lane = true
	// Host calls come on the first connection only.
	config.Handler = nil
	return newSession(conn, config), nil
}

// newSession makes a session that never waits for the peer to read. A node takes no descriptors from a function.
func newSession(c *net.UnixConn, config frame.SessionConfig) *frame.Session {
	socket, err := frame.NewSocket(c, false)
	if err != nil {
		// Only a closed connection has no descriptor; the session finds that out itself.
		return frame.NewSession(c, config)
	}
	return frame.NewSession(socket, config)
}

// Drain tells the instance to take no further calls and to exit once the running ones have ended. It does
// not wait for either. Calls after Drain are refused here.
func (c *Conn) Drain() error {
	// Each connection is drained in order with the calls on it, so that the instance misses none.
	if err := c.lanes.Drain(); err != nil {
		return err
	}
	return c.session.Send(frame.Drain, nil, nil)
}

// Draining reports whether the instance itself said that it takes no further calls.
func (c *Conn) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drained
}

// InFlight returns how many calls on the first connection wait for an answer.
func (c *Conn) InFlight() int { return c.session.InFlight() }

// Done is closed when the instance's end is gone or the Conn was closed.
func (c *Conn) Done() <-chan struct{} { return c.session.Done() }

// Close ends the connection and waits for its goroutines, host calls included. Calls in flight fail with
// ErrClosed. Idempotent.
func (c *Conn) Close() error {
	c.closed.Store(true)
	err := c.session.Close()
	c.lanes.Close()
	c.wg.Wait()
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// started reports whether calls may have started, waiting until that is certain.
func (c *Conn) started(ctx context.Context) bool {
	select {
	case <-c.ready:
		return true
	case <-c.session.Done():
		// The session ended with everything read that the instance wrote, unless we closed it.
		return isClosed(c.ready) || c.closed.Load()
	case <-ctx.Done():
		return true
	}
}

// beforeReady is the error of an instance that ended before READY.
func (c *Conn) beforeReady(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.initErr != nil:
		return c.initErr
	case c.closed.Load():
		return fmt.Errorf("wait for READY: %w", cause)
	}
	return &ExitError{Cause: fmt.Errorf("%w: %w", ErrNotStarted, withoutClosed(cause))}
}

// withoutClosed keeps callers from taking the end of the instance for a Conn that they closed.
func withoutClosed(err error) error {
	if errors.Is(err, frame.ErrClosed) {
		return errors.New(err.Error())
	}
	return err
}
