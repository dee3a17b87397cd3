package plugins

import (
	"io"

	"github.com/covey-dev/covey/plugins/frame"
)

// Attributes are name and value pairs beside a body.
type Attributes = frame.Attributes

// Stats are what the instance measured itself about one call.
type Stats = frame.Stats

// Call is one invocation on its way to an instance. Remaining, if not zero, may be less than
// the context allows, never more.
type Call struct {
	frame.Invoke
	// Body must not change before Invoke returns.
	Body []byte
}

// Reply is the answer of an instance. Body is valid until Release; what Parse gave (content type,
// attributes, stats) stays valid.
type Reply struct {
	frame.Result
	// Body is the output, unless Stream is set.
	Body []byte
	// Stream is set when the function streams its output. Reading blocks for it; a read error that is a
	// *FunctionError or *ExitError tells how the function ended. It must be read to its end or closed. Closed
	// before its end, its method Settled() <-chan struct{} tells when the instance is done with the call.
	Stream io.ReadCloser

	answer frame.Answer
}

// Release returns the buffers of the reply. It must be called exactly once, after the Stream is closed.
func (r *Reply) Release() { r.answer.Release() }

// HostCall is a function's request to its node. The identity of the function is the Conn that it came on.
type HostCall struct {
	// HostRequest carries request id, operation ("invoke"), target, content type and attributes.
	frame.HostRequest
	// Body is valid until the handler returns.
	Body []byte
}

// OpInvoke is the host call that invokes another function of the same app; Target is its name, with an
// optional ":qualifier".
const OpInvoke = "invoke"

// HostReply answers a HostCall.
type HostReply struct {
	frame.HostResult
	Body []byte
	// Release, if set, is called once Body has been sent.
	Release func()
}
