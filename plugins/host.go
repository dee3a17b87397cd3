package plugins

import (
	"context"
	"errors"

	"github.com/covey-dev/covey/plugins/frame"
)

// serveHostCall runs the host handler for one HOSTCALL.
func (c *Conn) serveHostCall(in *frame.Incoming) {
	var call HostCall
	if err := call.Parse(in.Head()); err != nil || in.Type() != frame.HostCallRequest {
		_ = in.Fail(nil, &frame.Failure{Kind: frame.KindPlatform, Type: "BadHostCall", Message: "the host call cannot be read"})
		return
	}
	call.Body = in.Body()
	if call.Remaining > 0 {
		in.SetTimeout(call.Remaining)
	}
	reply, err := c.cfg.Host(in.Context(), &call)
	// An answer that cannot be sent ends the session, and the function with it.
	switch {
	case errors.Is(err, ErrNotStarted):
		_ = in.Refuse(nil, refusal(err))
	case err != nil:
		_ = in.Fail(nil, failure(err))
	default:
		_ = in.Answer(frame.HostReply, &reply.HostResult, reply.Body)
		if reply.Release != nil {
			reply.Release()
		}
	}
}

func refusal(err error) *frame.Refusal {
	var r *frame.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &frame.Refusal{Code: "not_started", Message: err.Error()}
}

// HostHandler serves host calls. It runs on a goroutine of the Conn, with a context that ends when the
// function cancels the call or the instance is gone. A *FunctionError that it returns reaches the function
// as the other function's error, an error that wraps ErrNotStarted as one that may be tried again, and any
// other as a platform error with its text.
type HostHandler func(ctx context.Context, call *HostCall) (*HostReply, error)
