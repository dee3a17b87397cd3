package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of SessionConfig.
const (
	DefaultMaxBody     = 6<<20 + 64<<10
	DefaultWindow      = 1 << 20
	DefaultMaxIncoming = 1024
)

// SessionConfig says how one connection is used. Its zero value is usable.
type SessionConfig struct {
	// Handler serves the calls of the other side, at the same time, on goroutines that serve others later. Nil
	// refuses them.
	// The Incoming, its head and its body are invalid once Handler returns.
	Handler func(*Incoming)
	// Control receives HELLO, READY, DRAIN, and an ERROR that answers no call (id 0), on the reading
	// goroutine: it must not block or keep payload. An error ends the session. Nil ignores them.
	Control func(h Header, payload []byte) error
	// Hold keeps calls that come in waiting until [Session.Admit].
	Hold bool
	// Direct sends large bodies straight from the caller's memory, so the caller waits until the peer has
	// read them, whatever its context says. Without it bodies are copied and the caller is free.
	Direct bool
	// Lane says that the connection carries one call at a time: Direct, and a call whose context ends
	// while its body is being sent ends the session.
	Lane bool
	// MaxIncoming bounds the calls being served at once; more are refused as busy. Default 1024.
	MaxIncoming int
	// MaxBody bounds a body that is not streamed, in either direction. Default 6 MiB and 64 KiB.
	MaxBody int
	// Window is how much of an incoming stream may wait to be read. Default 1 MiB. Below 64 KiB streams
	// crawl; every open stream may take this much memory.
	Window int
	// Pool supplies buffers; sessions may share one. Nil makes one.
	Pool *Pool
}

// Session runs calls both ways over one connection. All methods are safe for concurrent use.
type Session struct {
	cfg        SessionConfig
	conn       net.Conn
	r          *Reader
	w          *Writer
	peerWindow atomic.Int64
	inFlight   atomic.Int64
	serving    atomic.Int64   // handlers running
	handlers   sync.WaitGroup // goroutines that run handlers or wait for a call
	idle       atomic.Int64   // those that wait
	work       chan *Incoming // hands them calls; unbuffered, so that none is left in it
	done       chan struct{}

	mu       sync.Mutex
	calls    map[uint64]*call         // calls of this side that wait for an answer
	left     map[uint64]chan struct{} // calls of this side that were given up, until the other side has ended them
	served   map[uint64]*Incoming     // calls of the other side, from first frame to last answer
	held     []*Incoming              // complete calls that wait for Admit
	holding  bool
	draining bool
	lastID   uint64
	err      error // why the session ended; set once, before done is closed
	writeErr error // why nothing more can be sent
}

// lingerTimeout bounds how long a session whose connection takes no more bytes goes on reading.
const lingerTimeout = time.Second

// NewSession wraps conn, which it owns from now on. Nothing is read before [Session.Run].
func NewSession(conn net.Conn, cfg SessionConfig) *Session {
	if cfg.MaxIncoming == 0 {
		cfg.MaxIncoming = DefaultMaxIncoming
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Pool == nil {
		cfg.Pool = new(Pool)
	}
	s := &Session{
		cfg:     cfg,
		conn:    conn,
		r:       NewReader(conn, cfg.Pool),
		w:       NewWriter(conn, cfg.Pool, cfg.Direct || cfg.Lane),
		work:    make(chan *Incoming),
		done:    make(chan struct{}),
		calls:   make(map[uint64]*call),
		left:    make(map[uint64]chan struct{}),
		served:  make(map[uint64]*Incoming),
		holding: cfg.Hold,
	}
	s.peerWindow.Store(DefaultWindow)
	s.w.failed = s.linger
	s.w.busy = func() bool { return s.inFlight.Load() > 1 || s.serving.Load() > 1 }
	return s
}

// Run reads until the connection ends or [Session.Close] is called, and returns once every handler has
// returned. The error says why the session ended; it is nil after Close.
func (s *Session) Run() error {
	err := s.read()
	s.mu.Lock()
	if s.writeErr != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = s.writeErr
	}
	s.mu.Unlock()
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w by the peer", ErrClosed)
	}
	s.fail(err)
	s.handlers.Wait()
	s.w.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == errClosedHere { //nolint:errorlint // The very value that Close set.
		return nil
	}
	return s.err
}

// errClosedHere marks a session that its own side closed.
var errClosedHere = fmt.Errorf("%w by this side", ErrClosed)

// Close ends the connection and every call on it. It does not wait; [Session.Run] does. Idempotent.
func (s *Session) Close() error {
	s.fail(errClosedHere)
	return nil
}

// Err returns why the session ended, or nil while it lasts.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Done is closed when the session has failed or was closed.
func (s *Session) Done() <-chan struct{} { return s.done }

// InFlight returns the number of calls this side waits for.
func (s *Session) InFlight() int { return int(s.inFlight.Load()) }

// Serving returns the number of calls of the other side that are not answered yet.
func (s *Session) Serving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.served)
}

// Send writes a frame that belongs to no call: HELLO, SETUP, READY, DRAIN, or an ERROR with body. An error
// means that the peer did not get the whole frame. A peer that got it and went away at once is none.
func (s *Session) Send(t Type, head Appender, body []byte) error {
	if end, err := s.w.Message(Header{Type: t}, head, body); err != nil && !s.w.Sent(end) {
		return fmt.Errorf("send %s: %w", t, err)
	}
	return nil
}

// Flush waits until everything sent so far has gone into the connection, or cannot.
func (s *Session) Flush() { s.w.Sent(0) }

// SendLane hands f, one end of a connection, to the peer, and closes it here. The session must be on a
// [Socket].
func (s *Session) SendLane(f *os.File) error {
	if err := s.w.File(Header{Type: Hello, Flags: FlagLane}, f); err != nil {
		return fmt.Errorf("send lane: %w", err)
	}
	return nil
}

// SetPeerWindow sets how much of a stream the peer accepts before it gives credit, as its HELLO said.
func (s *Session) SetPeerWindow(n int) { s.peerWindow.Store(int64(n)) }

// Admit starts the calls that were held, and holds no more.
func (s *Session) Admit() {
	s.mu.Lock()
	held := s.held
	s.held, s.holding = nil, false
	s.mu.Unlock()
	for _, in := range held {
		s.start(in)
	}
}

// Drain refuses calls that come in from now on. Those being served go on.
func (s *Session) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
}

// linger is called when the connection takes no more bytes. What the peer sent before it went away is still
// to be read (answers, or the READY that decides whether a call can have started), so the reader ends the
// session, soon.
func (s *Session) linger(err error) {
	s.mu.Lock()
	s.writeErr = err
	s.mu.Unlock()
	_ = s.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
}

// fail ends the session once: the connection closes, so that reader and flusher return, and every call is told.
func (s *Session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	s.err = err
	calls, served := s.calls, s.served
	s.calls, s.served, s.held = nil, nil, nil
	for id := range s.left {
		s.settleLocked(id)
	}
	close(s.done)
	s.mu.Unlock()
	s.w.Fail(err)
	_ = s.conn.Close()
	for _, c := range calls {
		c.fail(err)
	}
	for _, in := range served {
		in.ctx.cancel(err)
	}
}

// read dispatches frames until one cannot be read.
func (s *Session) read() error {
	for {
		h, err := s.r.Header()
		if err != nil {
			return err
		}
		switch {
		case h.Type.opensCall():
			err = s.readCall(h)
		case h.ID != 0 && h.Type.endsCall():
			err = s.readAnswer(h)
		case h.Type == Chunk && h.Flags&FlagAnswer != 0:
			err = s.readAnswerChunk(h)
		case h.Type == Chunk:
			err = s.readCallChunk(h)
		case h.Type == Credit:
			err = s.readCredit(h)
		case h.Type == Cancel:
			s.cancelServed(h.ID)
		default:
			err = s.readControl(h)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Session) readControl(h Header) error {
	buf := s.cfg.Pool.Get(int(h.Length))
	defer buf.Release()
	if err := s.r.Payload(buf.Bytes()); err != nil {
		return err
	}
	if s.cfg.Control == nil {
		return nil
	}
	return s.cfg.Control(h, buf.Bytes())
}

// readSize reads the length of a body that comes in chunks and follows the head.
func (s *Session) readSize(h Header) (uint64, error) {
	var b [8]byte
	if int(h.Length)-int(h.Head) != len(b) {
		return 0, fmt.Errorf("%w: %s in chunks without a length", ErrProtocol, h.Type)
	}
	if err := s.r.Payload(b[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n == 0 || n > 1<<62 {
		return 0, fmt.Errorf("%w: body of %d bytes in chunks", ErrProtocol, n)
	}
	return n, nil
}

// assembly is a body that arrives in chunks. It belongs to the reading goroutine until it is complete.
type assembly struct {
	buf    *Buffer
	filled int
}

// readChunk reads one chunk into its place and reports whether the body is complete.
func (s *Session) readChunk(a *assembly, h Header) (bool, error) {
	free := len(a.buf.Bytes()) - a.filled
	if h.Head != 0 || h.Length == 0 || int(h.Length) > free {
		return false, fmt.Errorf("%w: chunk of %d bytes where %d are missing", ErrProtocol, h.Length, free)
	}
	if err := s.r.Payload(a.buf.Bytes()[a.filled:][:h.Length]); err != nil {
		return false, err
	}
	a.filled += int(h.Length)
	complete := a.filled == len(a.buf.Bytes())
	if complete != (h.Flags&FlagEnd != 0) {
		return false, fmt.Errorf("%w: body ends at %d of %d bytes", ErrProtocol, a.filled, len(a.buf.Bytes()))
	}
	return complete, nil
}
