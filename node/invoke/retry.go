package invoke

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/scheduler"
)

// The bounds of one invocation's attempts.
const (
	// maxSends bounds how many nodes are asked. A refusal costs a hop; beyond
	// this many the cluster is busy, not unlucky.
	maxSends = 6
	// maxUnknown bounds how often an idempotent function is run again after its
	// outcome became unknown: an event that kills its instance would otherwise
	// kill one after the other.
	maxUnknown = 2
	// retryAfter is the advice to a caller whom nobody had room for.
	retryAfter = time.Second
)

// attempt sends the call until a node has answered it, or no other may be tried.
func (r *run) attempt(ctx context.Context) (*Response, error) {
	var exclude []state.NodeID
	var last error
	hops, number := 0, uint32(1)
	for range maxSends {
		d, err := r.place(hops, exclude)
		if err != nil {
			return r.wait(ctx, last, number)
		}
		resp, err := r.send(ctx, d, number)
		switch r.judge(ctx, err) {
		case answered:
			resp.Attempts = int(number)
			return resp, nil
		case final:
			return nil, err
		case unknown:
			if !r.target.idempotent || number > maxUnknown {
				return nil, &UnknownOutcomeError{Function: r.target.name, Err: err}
			}
			number++
		case refused:
		}
		last = err
		if !d.Local {
			hops++
		}
		exclude = append(exclude, d.Node)
	}
	return r.wait(ctx, last, number)
}

// wait is the last attempt of a call that nobody has room for: where memory was
// missing it waits here, in line with the other functions, for its turn to have
// some. Without that, one function with many calls would keep the others out for as
// long as they go on.
func (r *run) wait(ctx context.Context, last error, number uint32) (*Response, error) {
	if !errors.Is(last, executor.ErrNoCapacity) || r.target.spec == nil || r.over(ctx) {
		return nil, r.nowhere(last)
	}
	r.patient = true
	resp, err := r.send(ctx, scheduler.Decision{Node: r.path.cfg.Self, Local: true, Reason: scheduler.ReasonWait}, number)
	switch r.judge(ctx, err) {
	case answered:
		resp.Attempts = int(number)
		return resp, nil
	case final:
		return nil, err
	case unknown:
		return nil, &UnknownOutcomeError{Function: r.target.name, Err: err}
	default:
		return nil, r.nowhere(err)
	}
}

func (r *run) place(hops int, exclude []state.NodeID) (scheduler.Decision, error) {
	r.query = scheduler.Query{
		Version: r.target.version, Assignment: r.target.assignment,
		Local: r.path.load(r.target), Hops: hops, Key: r.key, Exclude: exclude, Now: time.Now(),
	}
	return r.path.cfg.Placer.Place(&r.query)
}

// verdict says what an attempt's error means for the next one.
type verdict int

const (
	answered verdict = iota
	refused          // it certainly did not start: another node may be asked
	unknown          // it may have run: only an idempotent function may run again
	final            // asking again would not help
)

// judge is the rule of repetition. It is the only place that decides it.
func (r *run) judge(ctx context.Context, err error) verdict {
	start, startFailed := errors.AsType[*executor.StartError](err)
	_, crashing := errors.AsType[*executor.CrashLoopError](err)
	switch {
	case err == nil:
		return answered
	case r.over(ctx), errors.Is(err, ErrTimeout):
		return final
	case startFailed && isInit(start), crashing:
		return final // it would fail in the same way elsewhere
	case errors.Is(err, plugins.ErrNotStarted):
		return refused
	default:
		return unknown
	}
}

func isInit(err error) bool {
	_, ok := errors.AsType[*plugins.InitError](err)
	return ok
}

// nowhere is the answer when no node is left to ask.
func (r *run) nowhere(last error) error {
	if start, ok := errors.AsType[*executor.StartError](last); ok {
		return start
	}
	reason := "no live node may run it"
	if last != nil {
		reason = last.Error()
	}
	return &BusyError{Function: r.target.name, Reason: reason, RetryAfter: retryAfter}
}

// history is the memory for the record of a call that one attempt answers, which
// most do.
type history struct {
	attempts [1]AttemptRecord
	steps    [4]Step
}

// send makes one attempt and keeps its record.
func (r *run) send(ctx context.Context, d scheduler.Decision, number uint32) (*Response, error) {
	p, begun := r.path, time.Now()
	if !r.patient { // that was not the placer's choice
		p.cfg.Placer.Sent(d)
	}
	r.call = Call{Version: r.target.version.Key, Request: r.req, Attempt: number, Deadline: r.deadline, Wait: r.patient}
	var resp *Response
	var load *scheduler.Load
	var err error
	if d.Local {
		resp, err = p.local(ctx, r.target, &r.call)
		l := p.load(r.target)
		load = &l
	} else {
		resp, load, err = p.cfg.Remote.Call(ctx, d.Node, &r.call)
	}
	took := time.Since(begun)
	out := scheduler.Outcome{Load: load, Refused: errors.Is(err, plugins.ErrNotStarted)}
	rec := AttemptRecord{Node: d.Node, Reason: d.Reason.String(), Took: took}
	h := new(history)
	if err != nil {
		rec.Error, rec.Started = err.Error(), !out.Refused
	} else {
		out.Took, out.Cold = resp.times()
		resp.Steps = slices.Insert(resp.Steps, 0, Step{"place", begun.Sub(r.start)})
		if !d.Local {
			resp.Steps = append(resp.Steps, Step{"hop", took - resp.inner()})
		}
		// A copy: the record outlives the response by far.
		rec.Cold, rec.Steps = resp.Cold, append(h.steps[:0], resp.Steps...)
	}
	if !r.patient {
		p.cfg.Placer.Done(d, out, begun.Add(took))
	}
	if r.attempts == nil {
		r.attempts = h.attempts[:0]
	}
	r.attempts = append(r.attempts, rec)
	return resp, err
}

// times are the run time and the cost of the start, for the scheduler.
func (r *Response) times() (ran, cold time.Duration) {
	for _, s := range r.Steps {
		switch s.Name {
		case "run":
			ran = s.Took
		case "fetch", "spawn", "handshake", "init", "start": // the last is that of older nodes
			cold += s.Took
		}
	}
	return ran, cold
}

// inner is the part of the time that was spent on the node that ran the call.
func (r *Response) inner() (sum time.Duration) {
	for _, s := range r.Steps {
		if s.Name != "place" {
			sum += s.Took
		}
	}
	return sum
}
