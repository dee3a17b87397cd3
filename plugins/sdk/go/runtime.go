package covey

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

const (
	cookieKey, cookieValue = "COVEY_PLUGIN", "1"
	// dataPlaneFD is where the node put this process's end of the data plane.
	dataPlaneFD = 3
	agent       = "covey-sdk-go/1"
	// maxPayload is more than any node sends; the node's own limit is what counts.
	maxPayload = 1 << 30
	// controlDelay keeps what go-plugin needs out of the way of a cold start.
	controlDelay = 10 * time.Millisecond
	// maxLanes is more than any node opens.
	maxLanes = 64
)

// init keeps programs that user code starts from inheriting the data plane. It cannot wait for Serve,
// because package-level code of the user's may start a program before main does.
func init() {
	if os.Getenv(cookieKey) == cookieValue {
		syscall.CloseOnExec(dataPlaneFD)
	}
}

// runtime is the process as an instance of its function.
type runtime struct {
	run     func(*call) ([]byte, error)
	started time.Time // when Serve was called

	pool    frame.Pool
	socket  *frame.Socket // nil without a data plane
	session *frame.Session
	reader  sync.Once
	ended   chan error  // gets the session's end once
	setup   chan *Setup // gets the node's SETUP, in a runtime

	maxOutput atomic.Int64  // the node's limit; 0 until its HELLO
	initTime  atomic.Int64  // taken by the first reply
	cpu       atomic.Int64  // processor time already reported
	quit      chan struct{} // closed when the process shall end once idle
	quitOnce  sync.Once

	mu       sync.Mutex
	lanes    []*lane
	ready    bool
	draining bool
}

// lane is a further connection for large bodies.
type lane struct {
	session *frame.Session
	drained bool // guarded by the runtime's mutex
}

// serve returns when the process shall exit.
func (r *runtime) serve(o *options) error {
	r.ended = make(chan error, 1)
	r.setup = make(chan *Setup, 1)
	r.quit = make(chan struct{})
	if err := r.open(); err != nil {
		return err
	}
	if err := r.initialise(o); errors.Is(err, errDone) {
		return nil
	} else if err != nil {
		return err
	}
	r.initTime.Store(int64(time.Since(r.started)))
	if r.session != nil {
		if err := r.session.Send(frame.Ready, nil, nil); err != nil {
			return err
		}
		r.admit()
	}
	control := newControl(r)
	// The first call may be here already, and go-plugin is in no hurry.
	listen := time.AfterFunc(controlDelay, control.serve)
	defer listen.Stop()
	defer control.close()
	select {
	case err := <-r.ended:
		// The node is gone or wants no more of us, and nobody waits for what still runs.
		if errors.Is(err, frame.ErrProtocol) {
			return err
		}
		return nil
	case <-r.quit:
		r.flush()
		for _, f := range o.shutdown {
			f()
		}
		return nil
	}
}

// open greets the node. Without a data plane (a plain go-plugin client started us) it does nothing.
func (r *runtime) open() error {
	var st syscall.Stat_t
	if err := syscall.Fstat(dataPlaneFD, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil
	}
	conn, err := frame.FileConn(os.NewFile(dataPlaneFD, "data-plane"))
	if err != nil {
		return fmt.Errorf("open data plane: %w", err)
	}
	if r.socket, err = frame.NewSocket(conn, true); err != nil {
		return fmt.Errorf("open data plane: %w", err)
	}
	config := r.config()
	config.Control = r.control
	r.session = frame.NewSession(r.socket, config)
	return r.session.Send(frame.Hello, &frame.Greeting{
		Least: frame.ProtocolVersion, Greatest: frame.ProtocolVersion,
		Window: frame.DefaultWindow, MaxBody: maxPayload, Agent: agent,
	}, nil)
}

// config is what the first connection and the lanes have in common. Calls are held until READY is written.
func (r *runtime) config() frame.SessionConfig {
	return frame.SessionConfig{Handler: r.handle, Hold: true, Direct: true, MaxBody: maxPayload, Pool: &r.pool}
}

// initialise runs the user's initialisation and reports its failure to the node.
func (r *runtime) initialise(o *options) (err error) {
	if o.become != nil {
		return r.setUp(o.become)
	}
	for _, f := range o.init {
		if err := r.initOne(f); err != nil {
			return r.initFailed(err)
		}
	}
	return nil
}

func (r *runtime) initOne(f func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: string(debug.Stack())}
		}
	}()
	return f(&call{Context: context.Background(), runtime: r})
}

// read starts reading the first connection: when calls are admitted, or when initialisation makes a host call.
func (r *runtime) read() {
	r.reader.Do(func() {
		go func() { r.ended <- r.session.Run() }()
	})
}

// admit lets calls run, once READY is written.
func (r *runtime) admit() {
	r.mu.Lock()
	r.ready = true
	lanes := r.lanes
	r.mu.Unlock()
	r.session.Admit()
	for _, l := range lanes {
		l.session.Admit()
	}
	r.read()
}

// control handles the node's frames that belong to no call.
func (r *runtime) control(h frame.Header, payload []byte) error {
	switch {
	case h.Type == frame.Hello && h.Flags&frame.FlagLane != 0:
		return r.openLane()
	case h.Type == frame.Hello:
		var hello frame.Greeting
		if err := hello.Parse(payload[:h.Head]); err != nil {
			return err
		}
		if _, err := hello.Negotiate(); err != nil {
			return err
		}
		r.session.SetPeerWindow(int(hello.Window))
		r.maxOutput.Store(int64(hello.MaxBody))
	case h.Type == frame.Drain:
		r.drain()
	case h.Type == frame.SetupFrame:
		setup := new(Setup)
		if err := setup.Parse(payload[h.Head:]); err != nil {
			return err
		}
		select {
		case r.setup <- setup:
		default:
			return fmt.Errorf("%w: SETUP out of order", frame.ErrProtocol)
		}
	}
	return nil
}

// openLane serves the connection that came with the frame.
func (r *runtime) openLane() error {
	file := r.socket.TakeFile()
	if file == nil {
		return fmt.Errorf("%w: lane without a descriptor", frame.ErrProtocol)
	}
	conn, err := frame.FileConn(file)
	if err != nil {
		return fmt.Errorf("open lane: %w", err)
	}
	socket, err := frame.NewSocket(conn, false)
	if err != nil {
		return fmt.Errorf("open lane: %w", err)
	}
	l := new(lane)
	config := r.config()
	config.Lane = true
	config.Control = func(h frame.Header, _ []byte) error {
		if h.Type == frame.Drain {
			r.drainLane(l)
		}
		return nil
	}
	l.session = frame.NewSession(socket, config)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lanes) == maxLanes {
		_ = l.session.Close()
		return errors.New("open lane: too many")
	}
	r.lanes = append(slices.Clone(r.lanes), l)
	if r.ready {
		l.session.Admit()
	}
	// A lane ends with the node's end of it; the process does not wait for it.
	go r.runLane(l)
	return nil
}

func (r *runtime) runLane(l *lane) {
	_ = l.session.Run()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lanes = slices.DeleteFunc(slices.Clone(r.lanes), func(x *lane) bool { return x == l })
	r.quitIfIdleLocked()
}

// drain refuses further calls and ends the process when the running ones have ended. The node drains each
// lane too, in order with the calls on it, so that none is lost between.
func (r *runtime) drain() {
	if r.session != nil {
		r.session.Drain()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	r.quitIfIdleLocked()
}

// quitWhenIdle is drain for a client that does not drain the lanes itself.
func (r *runtime) quitWhenIdle() {
	r.mu.Lock()
	lanes := r.lanes
	r.mu.Unlock()
	for _, l := range lanes {
		r.drainLane(l)
	}
	r.drain()
}

func (r *runtime) drainLane(l *lane) {
	l.session.Drain()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.drained = true
	r.quitIfIdleLocked()
}

// leave is called at the end of each call; the last one after drain ends the process.
func (r *runtime) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quitIfIdleLocked()
}

func (r *runtime) quitIfIdleLocked() {
	if !r.draining || r.session != nil && r.session.Serving() > 0 {
		return
	}
	for _, l := range r.lanes {
		if !l.drained || l.session.Serving() > 0 {
			return
		}
	}
	r.quitOnce.Do(func() { close(r.quit) })
}

// flush waits until every answer was written.
func (r *runtime) flush() {
	if r.session == nil {
		return
	}
	r.session.Flush()
	r.mu.Lock()
	lanes := r.lanes
	r.mu.Unlock()
	for _, l := range lanes {
		l.session.Flush()
	}
}
