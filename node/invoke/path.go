package invoke

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/internal/clock"
	"github.com/covey-dev/covey/scheduler"
)

// MaxDepth is how many invocations deep functions may call each other before it
// is taken for a loop. AWS Lambda stops at the same number.
const MaxDepth = 16

// maxWait is what a call may spend besides running (queues, starts, other
// attempts) when its caller sets no deadline.
const maxWait = 60 * time.Second

// Placer decides where an attempt goes; [scheduler.Scheduler] is the real one.
type Placer interface {
	Place(q *scheduler.Query) (scheduler.Decision, error)
	Sent(d scheduler.Decision)
	Done(d scheduler.Decision, out scheduler.Outcome, now time.Time)
}

// Local runs calls on this node; [executor.Executor] is the real one.
type Local interface {
	Invoke(ctx context.Context, spec *executor.Spec, req *executor.Request) (*executor.Response, error)
	Load(key executor.Key) executor.Load
}

// Remote runs calls on other nodes. Its errors are the ones that [Path.Serve]
// returned there, or wrap plugins.ErrNotStarted when the call certainly did not
// start; any other error leaves the outcome unknown. The load is nil when the
// node did not answer.
type Remote interface {
	Call(ctx context.Context, node state.NodeID, call *Call) (*Response, *scheduler.Load, error)
}

// Call is one attempt on its way to the node that shall run it.
type Call struct {
	Version state.VersionKey
	Request *Request
	// Attempt counts from 1 and grows only when an earlier one may have run.
	Attempt uint32
	// Deadline is when the entry node gives up. It travels beside the context,
	// whose own deadline would cost a timer per call; zero means none.
	Deadline time.Time
	// Wait lets the call wait for memory on this node. It does not travel.
	Wait bool
}

// Config is what a Path works with. All fields are required but Logs.
type Config struct {
	Self state.NodeID
	View func() *state.View
	// Fresh returns a state that holds every write acknowledged before the call.
	// It is asked for names that View does not know, and only then.
	Fresh  func(ctx context.Context) (*state.View, error)
	Placer Placer
	Local  Local
	Remote Remote
	// Draining tells that this node takes no new calls from clients.
	Draining func() bool
	// Records gets one record per invocation that entered here.
	Records *Records
	// Logs returns the last lines of a call that ran on this node.
	Logs  func(key state.FunctionKey, requestID string) []byte
	Clock clock.Clock
}

// Path runs invocations. Safe for concurrent use.
type Path struct {
	cfg     Config
	traffic *Traffic
	tables  tables
	limits  limits
	// depths holds the depth of the calls that run here on behalf of functions,
	// by request id. Calls by clients are not in it, which keeps them cheap.
	depths sync.Map
}

// NewPath returns a Path.
func NewPath(cfg Config) (*Path, error) {
	var errs []error
	need := func(field string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: is required", field))
		}
	}
	need("Self", cfg.Self != "")
	need("View", cfg.View != nil)
	need("Fresh", cfg.Fresh != nil)
	need("Placer", cfg.Placer != nil)
	need("Local", cfg.Local != nil)
	need("Remote", cfg.Remote != nil)
	need("Draining", cfg.Draining != nil)
	need("Records", cfg.Records != nil)
	need("Clock", cfg.Clock != nil)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure invocation path: %w", err)
	}
	traffic := newTraffic(cfg.View)
	return &Path{cfg: cfg, traffic: traffic, tables: tables{self: cfg.Self, traffic: traffic}}, nil
}

// Traffic counts what goes through this path; it is a collector of metrics too.
func (p *Path) Traffic() *Traffic { return p.traffic }

// Invoke runs one invocation that entered the cluster on this node, on whichever
// node the scheduler chooses, and blocks until it is over or ctx ends. A
// function that fails is a Response with FunctionError; every error is the
// platform's. The caller must Release the response.
func (p *Path) Invoke(ctx context.Context, req *Request) (*Response, error) {
	start := time.Now()
	r := &run{path: p, req: req, start: start}
	resp, err := r.invoke(ctx)
	rec := r.record(resp, err)
	if r.target != nil {
		r.target.counts.entered(r, resp, err, rec.Took)
	}
	p.cfg.Records.Add(rec)
	return resp, err
}

// run is one invocation while it is under way.
type run struct {
	path     *Path
	req      *Request
	start    time.Time
	target   *target
	key      uint64    // hash of the request's key, 0 for none
	deadline time.Time // when this node gives up
	attempts []AttemptRecord
	patient  bool // no other node is left: wait here

	// What is handed to the placer and to the place, kept here because it would
	// otherwise be allocated by itself.
	query scheduler.Query
	call  Call
}

func (r *run) invoke(ctx context.Context) (*Response, error) {
	p := r.path
	r.prepare()
	if p.cfg.Draining() {
		return nil, ErrDraining
	}
	if r.req.Depth > MaxDepth {
		return nil, ErrTooDeep
	}
	view, ver, err := r.resolve(ctx)
	if err != nil {
		return nil, err
	}
	r.target = p.tables.find(view, ver)
	if err := p.limits.allow(r.target); err != nil {
		return nil, err
	}
	leave, err := p.limits.enter(view.App(ver.Key.App), r.target.name)
	if err != nil {
		return nil, err
	}
	r.deadline = r.giveUp()
	resp, err := r.attempt(ctx)
	if err != nil {
		if leave != nil {
			leave()
		}
		return nil, r.explain(ctx, err)
	}
	resp.leave = leave
	return resp, nil
}

// freshTimeout bounds the look at the cluster's newest state for an unknown name.
const freshTimeout = time.Second

// resolve finds the version that the request means. A name that this node does
// not know may have been deployed through another node a moment ago, so before a
// caller is told that it does not exist, the newest state is looked at; without a
// quorum, what this node knows has to do.
func (r *run) resolve(ctx context.Context) (*state.View, *state.Version, error) {
	app, name, pick := state.AppName(r.req.App), state.FunctionName(r.req.Function), 0.0
	if r.req.Key == "" {
		pick = rand.Float64()
	} else {
		r.key = keyOf(r.req.App, r.req.Function, r.req.Key)
		pick = pickOf(r.key)
	}
	view := r.path.cfg.View()
	ver, err := view.Resolve(app, name, r.req.Qualifier, pick)
	if err == nil {
		return view, ver, nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	if fresh, ferr := r.path.cfg.Fresh(ctx); ferr == nil && fresh.Index() > view.Index() {
		view = fresh
		if ver, err = view.Resolve(app, name, r.req.Qualifier, pick); err == nil {
			return view, ver, nil
		}
	}
	return nil, nil, fmt.Errorf("%w %s/%s: %w", ErrNotFound, r.req.App, r.req.Function, err)
}

// prepare fills in what the caller left open, in a copy: requests are not
// changed.
func (r *run) prepare() {
	if r.req.ID != "" && r.req.App != "" {
		return
	}
	req := *r.req
	if req.ID == "" {
		req.ID = ulid.MustNew(ulid.Timestamp(r.start), ulid.DefaultEntropy()).String()
	}
	if req.App == "" {
		req.App = string(state.DefaultApp)
	}
	r.req = &req
}

// giveUp is when this node gives up: the caller's time, or enough for the
// function's own timeout after a wait.
func (r *run) giveUp() time.Time {
	d := r.start.Add(r.target.timeout + maxWait)
	if own := r.req.Deadline; !own.IsZero() && own.Before(d) {
		return own
	}
	return d
}

// over reports that nobody waits for an answer any more.
func (r *run) over(ctx context.Context) bool {
	return ctx.Err() != nil || !time.Now().Before(r.deadline)
}

// explain turns an error of the parts into what it means for the caller.
func (r *run) explain(ctx context.Context, err error) error {
	start, notUp := errors.AsType[*executor.StartError](err)
	crash, crashing := errors.AsType[*executor.CrashLoopError](err)
	switch {
	case notUp:
		return &StartError{Function: r.target.name, Reason: withLog(start.Reason, start.Log)}
	case crashing:
		return &StartError{Function: r.target.name, Reason: crash.Error()}
	case errors.Is(err, ErrTimeout), !r.over(ctx):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%w: %w", ErrCanceled, err)
	default:
		return fmt.Errorf("%w after %v: %w", ErrTimeout, time.Since(r.start).Round(time.Millisecond), err)
	}
}

// withLog adds what the instance printed, which is most of the help that its
// author can get.
func withLog(reason, log string) string {
	if log == "" {
		return reason
	}
	return reason + "; it printed:\n" + log
}

// record is what this invocation leaves behind for `covey explain`.
func (r *run) record(resp *Response, err error) Record {
	took := time.Since(r.start)
	rec := Record{
		RequestID: r.req.ID, App: r.req.App, Function: r.req.Function, Caller: r.req.Caller,
		Entry: r.path.cfg.Self, Start: r.path.cfg.Clock.Now().Add(-took), Took: took,
		BytesIn: int64(len(r.req.Body)), Keyed: r.req.Key != "", Attempts: r.attempts, Outcome: "ok",
	}
	if r.target != nil {
		rec.Version = uint64(r.target.version.Key.Number)
	}
	switch {
	case err != nil:
		rec.Outcome, rec.Error = "error", err.Error()
	case resp.FunctionError != nil:
		rec.Outcome, rec.Error = "function_error", resp.FunctionError.Error()
	}
	if resp != nil {
		rec.BytesOut, rec.Usage = int64(len(resp.Body)), resp.Usage
	}
	return rec
}
