package invoke

import (
	"context"
	"errors"
	"fmt"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

// errNotHere refuses a call for a version that this node does not know yet, or
// has no share of.
var errNotHere = fmt.Errorf("version may not run on this node: %w", plugins.ErrNotStarted)

// Serve runs a call that another node sent here, on this node or not at all, and
// tells this node's load for the version.
func (p *Path) Serve(ctx context.Context, call *Call) (*Response, scheduler.Load, error) {
	view := p.cfg.View()
	ver := view.Version(call.Version)
	if ver == nil {
		return nil, scheduler.Load{}, errNotHere
	}
	t := p.tables.find(view, ver)
	resp, err := p.local(ctx, t, call)
	return resp, p.load(t), err
}

// Depth is how deep the invocation with that id is, if it runs on this node; host
// calls on its behalf are one deeper. An invocation by a client has depth zero.
func (p *Path) Depth(requestID string) uint8 {
	if d, ok := p.depths.Load(requestID); ok {
		return d.(uint8)
	}
	return 0
}

// load is this node's own load for a version.
func (p *Path) load(t *target) scheduler.Load {
	if t.spec == nil {
		return scheduler.Load{Full: true}
	}
	l := p.cfg.Local.Load(t.spec.Key)
	load := scheduler.Load{
		InFlight: l.InFlight, Queued: l.Queued, Free: l.Free, Instances: l.Instances, Starting: l.Starting,
		Full: full(&l, t.spec),
	}
	if t.spec.Reserved {
		// Other versions use the share as well: what they leave is what is free.
		load.Free = max(min(load.Free, t.reserved-l.Entered), 0)
		load.Queued += l.Waiting
		load.Full = load.Full || (l.Entered >= t.reserved && l.Waiting >= t.spec.Queue)
	}
	return load
}

// full tells that the next call would be refused: nothing is free, nothing may be
// started, and nobody may wait any more.
func full(l *executor.Load, spec *executor.Spec) bool {
	atMax := spec.Max > 0 && l.Instances+l.Starting >= spec.Max
	return l.Free == 0 && atMax && l.Queued >= spec.Queue
}

// localCall is the memory of one call here, in one piece.
type localCall struct {
	req   executor.Request
	resp  Response
	steps [8]Step // room for all kinds
}

// local runs a call in the executor and turns its answer into a Response.
func (p *Path) local(ctx context.Context, t *target, call *Call) (*Response, error) {
	if t.spec == nil {
		return nil, errNotHere
	}
	req := call.Request
	if req.Depth > 0 {
		p.depths.Store(req.ID, req.Depth)
		defer p.depths.Delete(req.ID)
	}
	lc := &localCall{req: executor.Request{
		ID: req.ID, Attempt: call.Attempt, Body: req.Body, ContentType: req.ContentType,
		Trace: req.Trace, Depth: req.Depth, Attributes: Attributes(req.Attributes), Deadline: call.Deadline,
		Wait: call.Wait,
	}}
	ran, err := p.cfg.Local.Invoke(ctx, t.spec, &lc.req)
	t.counts.ranHere(err)
	resp := p.response(lc, t, call, ran)
	switch fe, failed := errors.AsType[*plugins.FunctionError](err); {
	case err == nil:
		return resp, nil
	case failed:
		resp.FunctionError = fe
		return resp, nil
	case errors.Is(err, executor.ErrTimeout):
		resp.Release()
		return nil, fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	if exit, ok := errors.AsType[*plugins.ExitError](err); ok && !t.idempotent && !errors.Is(err, plugins.ErrNotStarted) {
		// The instance ended by itself: its own doing, told like a panic.
		resp.FunctionError = &plugins.FunctionError{Type: "Runtime.ExitError", Message: exit.Error(), Unhandled: true}
		return resp, nil
	}
	resp.Release()
	return nil, err
}

// response wraps what the executor gave, which may be nil beside an error.
func (p *Path) response(lc *localCall, t *target, call *Call, ran *executor.Response) *Response {
	resp := &lc.resp
	resp.RequestID, resp.Version, resp.Node = call.Request.ID, t.version.Key, p.cfg.Self
	if call.Request.WantLogs && p.cfg.Logs != nil {
		resp.LogTail = p.cfg.Logs(t.version.Key.FunctionKey(), call.Request.ID)
	}
	if ran == nil {
		return resp
	}
	resp.Body, resp.Stream, resp.ContentType, resp.Status = ran.Body, ran.Stream, ran.ContentType, ran.Status
	resp.Headers, resp.Cold, resp.ran = ran.Attributes, ran.Cold, ran
	resp.Steps = lc.steps[:0]
	if ran.Steps.Queue > 0 {
		resp.Steps = append(resp.Steps, Step{"queue", ran.Steps.Queue})
	}
	if ran.Cold {
		st := &ran.Steps
		resp.Steps = append(resp.Steps,
			Step{"fetch", st.Fetch}, Step{"spawn", st.Spawn}, Step{"handshake", st.Handshake}, Step{"init", st.Init})
	}
	resp.Steps = append(resp.Steps, Step{"run", ran.Steps.Run})
	u := ran.Usage
	resp.Usage = Usage{Billed: u.Billed, Init: u.Init, CPU: u.CPU, MemoryLimit: u.MemoryLimit, MemoryPeak: u.MemoryPeak}
	return resp
}

// Attributes turns a map into the pairs that cross process boundaries; their
// order is of no meaning.
func Attributes(m map[string]string) plugins.Attributes {
	if len(m) == 0 {
		return nil
	}
	pairs := make(plugins.Attributes, 0, len(m))
	for name, value := range m {
		pairs = append(pairs, frame.Attribute{Name: name, Value: value})
	}
	return pairs
}
