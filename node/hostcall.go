package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/plugins"
)

// hostCall serves what a function asks of the platform. Who asks is the instance
// at the other end of the connection, not what the message says; until roles
// exist, a function reaches its own app only.
func (n *Node) hostCall(ctx context.Context, caller executor.Key, call *plugins.HostCall) (*plugins.HostReply, error) {
	if call.Op != plugins.OpInvoke {
		return nil, fmt.Errorf("unknown host call %q", call.Op)
	}
	name, qualifier, _ := strings.Cut(call.Target, ":")
	if strings.Contains(name, "/") {
		return nil, fmt.Errorf("invoke %s: a function reaches functions of its own app %s only", call.Target, caller.App)
	}
	req := &invoke.Request{
		App: caller.App, Function: name, Qualifier: qualifier,
		// The body is only borrowed until this returns, which is after the call.
		Body: call.Body, ContentType: call.ContentType,
		Caller: caller.String(), Depth: n.path.Depth(call.RequestID) + 1,
		Attributes: attributeMap(call.Attributes),
	}
	if call.Remaining > 0 {
		req.Deadline = time.Now().Add(call.Remaining)
	}
	resp, err := n.path.Invoke(ctx, req)
	if err != nil {
		return nil, err
	}
	if resp.FunctionError != nil {
		resp.Release()
		return nil, resp.FunctionError
	}
	body, err := resp.Whole(n.cfg.MaxBody)
	if err != nil {
		resp.Release()
		return nil, err
	}
	reply := &plugins.HostReply{Body: body, Release: resp.Release}
	reply.ContentType = resp.ContentType
	return reply, nil
}
