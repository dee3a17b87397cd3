package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/internal/keepalive"
	"github.com/covey-dev/covey/plugins"
)

// State is where an instance is in its life. It only moves forward.
type State int

// The states. An instance is busy while a call is in it, which Instances shows;
// inside, ready and busy are one state with a count of calls.
const (
	StateStarting State = iota
	StateReady
	StateBusy
	StateDraining
	StateDead
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"starting", "ready", "busy", "draining", "dead"}[s]
}

// process is what the executor needs of a started instance; *sandbox.Process is
// the real one.
type process interface {
	Pid() int
	Done() <-chan struct{}
	State() sandbox.State
	Kill()
	Memory() (int64, error)
	Peak() int64
	CPUTime() time.Duration
}

// plane is the data plane to an instance; *plugins.Conn is the real one.
type plane interface {
	Ready(ctx context.Context) (plugins.Hello, error)
	Invoke(ctx context.Context, call *plugins.Call) (*plugins.Reply, error)
	Drain() error
	Done() <-chan struct{}
	Close() error
}

// launched is a started instance in its parts.
type launched struct {
	process process
	plane   plane
	// ready, if set, runs once the instance takes calls, off their path. ctx ends
	// when the process is gone.
	ready func(ctx context.Context)
	// fetch and spawn are how long it took to have the code, and the process.
	fetch, spawn time.Duration
	// close frees what belongs to the instance beside process and plane, after
	// both have ended. It waits until all their output is in the log. May be nil.
	close func()
}

// launcher starts instances; a test injects failures here.
type launcher interface {
	launch(ctx context.Context, in *instance) (*launched, error)
	// limitsMemory tells whether the kernel holds instances to their limit.
	limitsMemory() bool
}

// endKind says how an instance is to be ended.
type endKind int

const (
	// endNow ends the process at once: there is nothing to wait for, or what
	// runs must not go on.
	endNow endKind = iota
	// endGraceful lets the process end by itself for a moment. It has no calls.
	endGraceful
)

const (
	// drainGrace is how long an instance may take to end by itself.
	drainGrace = time.Second
	// exitGrace is how long a process may outlive its end of the data plane
	// before it is ended: long enough to learn its exit code.
	exitGrace = 250 * time.Millisecond
)

// reasonDisconnected is said of a process that lives on without its data plane,
// which it has closed or garbled.
const reasonDisconnected = "its connection to the node broke"

// instance is one execution environment of a version. Its supervisor goroutine,
// which runs supervise, owns the process; everything else asks it to end.
type instance struct {
	id   string
	p    *pool
	spec *Spec
	// asked is when the start was decided, began when its turn came, and readyAt
	// when it took calls.
	asked, began, readyAt time.Time

	*launched // nil until the process runs; the supervisor sets it
	log       *instanceLog

	// ctx ends with the first request to end the instance, or with its end.
	ctx    context.Context
	cancel context.CancelFunc
	dead   chan struct{} // closed when nothing of the instance is left
	exit   *Exit         // how it ended; set before dead is closed, nil if it never ran

	reserved   bool         // holds memory; the supervisor's
	overMemory atomic.Bool  // ended by us for its memory
	peak       atomic.Int64 // greatest memory seen

	// Guarded by p.mu.
	state    State
	busy     int
	served   bool      // completed a call
	ahead    bool      // started ahead of a call that has not come yet
	until    time.Time // until when that call is expected
	yielding bool      // ends for another version once its calls have ended
	lastUsed time.Time
	clock    keepalive.Clock // at the last use
	how      endKind
	why      string // set by the first endLocked
}

// Exit is how an instance ended. It is the cause within a *plugins.ExitError.
type Exit struct {
	Instance string
	sandbox.State
	// Reason is why the executor ended it, or empty when it ended by itself.
	Reason string
}

// Error describes the end in words for the function's author.
func (e *Exit) Error() string {
	switch {
	case e.OOM:
		return "instance exceeded its memory limit"
	case e.Reason != "":
		return "instance was ended: " + e.Reason
	case e.Signal != 0:
		return "instance was ended by signal: " + e.Signal.String()
	default:
		return fmt.Sprintf("instance exited with code %d", e.Code)
	}
}

// endLocked asks the supervisor to end the instance, and keeps calls away from
// it from now on. Only the first request counts.
func (p *pool) endLocked(in *instance, how endKind, why string) {
	if in.why != "" {
		return
	}
	in.how, in.why = how, why
	p.detachLocked(in)
	in.cancel()
}

// end is endLocked for callers without the lock.
func (in *instance) end(how endKind, why string) {
	in.p.mu.Lock()
	defer in.p.mu.Unlock()
	in.p.endLocked(in, how, why)
}

// detachLocked takes an instance out of service. Calls in it are not touched.
func (p *pool) detachLocked(in *instance) {
	if in.state != StateReady {
		return
	}
	in.state = StateDraining
	p.ready.Add(-1)
	p.withdrawLocked(in)
}

// idleLocked reports whether the instance could be ended without harm.
func (in *instance) idleLocked() bool { return in.state == StateReady && in.busy == 0 }

// supervise is the life of an instance. It returns when nothing of it is left.
func (in *instance) supervise() {
	p := in.p
	defer in.cancel()
	if err := in.start(); err != nil {
		in.bury(in.startFailed(err))
		return
	}
	var helpers sync.WaitGroup
	helped, release := context.WithCancel(context.Background())
	defer release()
	if in.ready != nil {
		helpers.Go(func() { in.ready(helped) })
	}
	p.welcome(in)
	select {
	case <-in.plane.Done():
	case <-in.process.Done():
	case <-in.ctx.Done():
	}
	p.mu.Lock()
	p.detachLocked(in)
	how, why := in.how, in.why
	p.mu.Unlock()
	in.finish(how, why)
	release()
	helpers.Wait()
	in.bury(nil)
}

// finish ends process and data plane, and learns how the process ended.
func (in *instance) finish(how endKind, why string) {
	grace := time.Duration(0)
	switch {
	case why == "":
		grace = exitGrace // it went away by itself
	case how == endGraceful && in.plane.Drain() == nil:
		grace = drainGrace
	}
	if grace > 0 {
		timer := time.NewTimer(grace)
		select {
		case <-in.process.Done():
		case <-timer.C:
			if why == "" {
				why = reasonDisconnected
			}
		case <-in.p.e.ctx.Done():
		}
		timer.Stop()
	}
	// In every case, and also after a good exit: the process may have left others
	// running. It returns when all of them are gone.
	in.process.Kill()
	// The plane then ends by itself, which tells it which calls had started.
	timer := time.NewTimer(exitGrace)
	select {
	case <-in.plane.Done():
	case <-timer.C:
	}
	timer.Stop()
	if err := in.plane.Close(); err != nil && !errors.Is(err, plugins.ErrClosed) {
		in.p.e.log.Debug().Str("instance", in.id).Err(err).Msg("close data plane")
	}
	if in.close != nil {
		in.close()
	}
	in.exit = &Exit{Instance: in.id, State: in.process.State(), Reason: why}
	in.exit.OOM = in.exit.OOM || in.overMemory.Load()
	in.observePeak(in.exit.Peak)
}

// bury takes a dead instance out of its pool. cause is what waiting calls are
// told if it was their only hope.
func (in *instance) bury(cause error) {
	p := in.p
	p.mu.Lock()
	// An instance that came up but never completed a call is as bad as one that
	// did not come up. One that we ended for a reason of our own is neither.
	switch {
	case in.state == StateStarting:
		p.starting.Add(-1)
	case in.exit != nil && in.why == "" && !in.served:
		p.failing.fail(time.Now(), in.asked, in.exit.Error())
	}
	in.state = StateDead
	p.settleGuessLocked(in, false)
	delete(p.all, in)
	p.mu.Unlock()
	if in.exit != nil {
		in.report()
	}
	// Only now: memory that is given back earlier would be promised twice.
	if in.reserved {
		p.e.memory.release(p.key, in.spec.Memory, in.yielding, time.Now())
	}
	close(in.dead)
	if in.reserved && p.e.memory.contended.Load() > 0 {
		p.e.feed()
	}
	p.settle(cause)
}

// report tells log and metrics how the instance ended.
func (in *instance) report() {
	reason := "ended"
	if in.exit.Reason == "" || in.exit.Reason == reasonDisconnected {
		reason = "exited"
	}
	if in.exit.OOM {
		reason = "oom"
	}
	in.p.m.exits.WithLabelValues(reason).Inc()
	event := in.p.e.log.Debug()
	if reason != "ended" {
		event = in.p.e.log.Info()
		in.log.platform(in.exit.Error())
	}
	event.Str("function", in.p.key.String()).Str("instance", in.id).Str("reason", in.exit.Error()).
		Int64("peak_bytes", in.peak.Load()).Msg("instance ended")
}

// observePeak keeps the greatest memory reading.
func (in *instance) observePeak(bytes int64) {
	for {
		old := in.peak.Load()
		if bytes <= old || in.peak.CompareAndSwap(old, bytes) {
			return
		}
	}
}
