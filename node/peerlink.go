package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/node/link"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/scheduler"
)

// answerRoom is how much longer the caller's side waits than the function may
// run, so that the other side's own "timed out" has time to arrive.
const answerRoom = 2 * time.Second

// remote is the peer link as the invocation path uses it.
type remote struct{ link *link.Link }

var _ invoke.Remote = remote{}

// Call implements invoke.Remote.
func (r remote) Call(ctx context.Context, node state.NodeID, call *invoke.Call) (*invoke.Response, *scheduler.Load, error) {
	req := call.Request
	out := link.Call{
		Invoke: frame.Invoke{
			RequestID: req.ID, Attempt: call.Attempt,
			App: string(call.Version.App), Function: string(call.Version.Function), Version: uint64(call.Version.Number),
			Node: string(node), ContentType: req.ContentType, Trace: req.Trace, Depth: req.Depth,
			Attributes: invoke.Attributes(req.Attributes),
		},
		Hops: 1, WantLogs: req.WantLogs, Body: req.Body,
	}
	if !call.Deadline.IsZero() {
		out.Remaining = max(time.Until(call.Deadline), time.Millisecond)
		out.Deadline = call.Deadline.Add(answerRoom)
	}
	reply, err := r.link.Call(ctx, node, &out)
	var load *scheduler.Load
	if reply != nil && reply.Load != nil {
		l := *reply.Load
		load = &l
	}
	fe, failed := errors.AsType[*plugins.FunctionError](err)
	if err != nil && !failed {
		reply.Release()
		if errors.Is(err, executor.ErrTimeout) {
			err = fmt.Errorf("%w: %w", invoke.ErrTimeout, err)
		}
		return nil, load, err
	}
	resp := received(node, call, reply, fe)
	resp.OnRelease(func() {
		if reply != nil && reply.Stream != nil {
			_ = reply.Stream.Close()
		}
		reply.Release()
	})
	return resp, load, nil
}

// received turns another node's reply, which may be nil beside a function's
// error, into a Response.
func received(node state.NodeID, call *invoke.Call, reply *link.Reply, fe *plugins.FunctionError) *invoke.Response {
	resp := &invoke.Response{RequestID: call.Request.ID, Version: call.Version, Node: node, FunctionError: fe}
	if reply == nil {
		return resp
	}
	resp.Body, resp.Stream, resp.ContentType, resp.Status = reply.Body, reply.Stream, reply.ContentType, int(reply.Status)
	resp.Headers, resp.Cold = reply.Attributes, reply.Cold
	resp.Steps = make([]invoke.Step, 0, len(reply.Steps)+2)
	for _, s := range reply.Steps {
		resp.Steps = append(resp.Steps, invoke.Step{Name: s.Name, Took: s.Took})
	}
	u := reply.Usage
	resp.Usage = invoke.Usage{Billed: u.Billed, Init: u.Init, CPU: u.CPU, MemoryLimit: u.MemoryLimit, MemoryPeak: u.MemoryPeak}
	if len(reply.LogTail) > 0 {
		resp.LogTail = append([]byte(nil), reply.LogTail...)
	}
	return resp
}

// serveLink runs a call that another node sent here. It is the link's handler.
func (n *Node) serveLink(ctx context.Context, _ state.NodeID, in *link.Call) (*link.Reply, error) {
	req := &invoke.Request{
		ID: in.RequestID, App: in.App, Function: in.Function, Body: in.Body, ContentType: in.ContentType,
		Trace: in.Trace, Depth: in.Depth, WantLogs: in.WantLogs, Attributes: attributeMap(in.Attributes),
	}
	resp, load, err := n.path.Serve(ctx, &invoke.Call{
		Version: state.VersionKey{
			App: state.AppName(in.App), Function: state.FunctionName(in.Function), Number: state.VersionNumber(in.Version),
		},
		Request: req, Attempt: in.Attempt, Deadline: in.Deadline,
	})
	reply := &link.Reply{Load: &load}
	if resp == nil {
		return reply, err
	}
	reply.Body, reply.Stream, reply.ContentType, reply.Status = resp.Body, resp.Stream, resp.ContentType, uint16(resp.Status)
	reply.Attributes, reply.Cold, reply.LogTail = resp.Headers, resp.Cold, resp.LogTail
	reply.Steps = make([]link.Step, len(resp.Steps))
	for i, s := range resp.Steps {
		reply.Steps[i] = link.Step{Name: s.Name, Took: s.Took}
	}
	u := resp.Usage
	reply.Usage = link.Usage{Billed: u.Billed, Init: u.Init, CPU: u.CPU, MemoryLimit: u.MemoryLimit, MemoryPeak: u.MemoryPeak}
	reply.OnRelease(func(*link.Reply) { resp.Release() })
	if err == nil && resp.FunctionError != nil {
		err = resp.FunctionError
	}
	return reply, err
}

func attributeMap(pairs plugins.Attributes) map[string]string {
	if len(pairs) == 0 {
		return nil
	}
	m := make(map[string]string, len(pairs))
	for _, a := range pairs {
		m[a.Name] = a.Value
	}
	return m
}
