package covey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// Invoke calls another function of the same app and returns its output. name may carry a qualifier, as in
// "resize:3" or "resize:beta". It must be given a handler's context, or OnInit's; the call takes the context's deadline along.
// An error of the function comes back as *[Error]; an error that wraps [ErrNotStarted] may be tried again.
func Invoke(ctx context.Context, name string, payload []byte) ([]byte, error) {
	c := fromContext(ctx)
	if c == nil || c.runtime == nil || c.runtime.session == nil {
		return nil, errors.New("invoke " + name + ": the context does not belong to a call")
	}
	request := frame.HostRequest{RequestID: c.invocation.RequestID, Op: "invoke", Target: name}
	if deadline, ok := ctx.Deadline(); ok {
		request.Remaining = time.Until(deadline)
	}
	output, err := c.runtime.hostCall(ctx, &request, payload)
	if err != nil {
		return nil, fmt.Errorf("invoke %s: %w", name, err)
	}
	return output, nil
}

// hostCall asks the node for something.
func (r *runtime) hostCall(ctx context.Context, request *frame.HostRequest, payload []byte) ([]byte, error) {
	r.read()
	answer, err := r.session.Call(ctx, frame.HostCallRequest, request, payload)
	if err != nil {
		return nil, err
	}
	defer answer.Release()
	switch answer.Type {
	case frame.HostReply:
		return bytes.Clone(answer.Body), nil
	case frame.RefusedReply:
		refusal := new(frame.Refusal)
		if err := refusal.Parse(answer.Body); err != nil {
			return nil, fmt.Errorf("%w: read refusal: %w", ErrNotStarted, err)
		}
		return nil, refusal
	case frame.ErrorReply:
		var f frame.Failure
		if err := f.Parse(answer.Body); err != nil {
			return nil, fmt.Errorf("read error: %w", err)
		}
		return nil, errorOf(&f)
	}
	return nil, fmt.Errorf("%w: %s answers a host call", frame.ErrProtocol, answer.Type)
}
