package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/covey-dev/covey/node/client/wire"
)

// Call is one invocation.
type Call struct {
	// App and Function name the function; an empty App means "default".
	App, Function string
	// Qualifier is a version number, an alias or "$LATEST"; empty means "live".
	Qualifier string
	// Body is the event.
	Body []byte
	// ContentType of the body; default "application/json".
	ContentType string
	// RequestID to use; empty makes one. See [wire.ValidRequestID].
	RequestID string
	// Key says which calls belong together, see [wire.HeaderKey].
	Key string
	// Trace is a W3C traceparent.
	Trace string
	// Attributes are facts for the function beside the body. Names keep letters,
	// digits and hyphens, and arrive in lower case.
	Attributes map[string]string
	// Logs asks for the end of the call's log.
	Logs bool
}

// Reply is the answer of a function.
type Reply struct {
	RequestID   string
	Body        []byte
	ContentType string
	// Status is the HTTP status, which a function may choose.
	Status int
	// Version ran ("app/name:3"), on Node, Cold or not.
	Version, Node string
	Cold          bool
	// Timing is the Server-Timing header: the parts of the time spent.
	Timing string
	// Logs is the end of the call's log, if it was asked for.
	Logs []byte
}

// Invoke calls a function and returns its whole answer. It sends the call again
// by the rules of the package. Errors: [*Error] for what the cluster answered,
// which is [ErrFunction] when the function failed; [*UnknownOutcomeError];
// [*UnreachableError]; the context's.
func (c *Client) Invoke(ctx context.Context, call *Call) (*Reply, error) {
	var reply *Reply
	err := c.do(ctx, c.invocation(call), func(resp *http.Response) error {
		body, err := readBody(resp)
		if err != nil {
			return err
		}
		reply = newReply(resp)
		reply.Body = body
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// InvokeTo calls a function and copies its answer to w as it arrives. Once the
// first byte was written to w the call is not sent again. Reply.Body is nil.
func (c *Client) InvokeTo(ctx context.Context, call *Call, w io.Writer) (*Reply, error) {
	var reply *Reply
	err := c.do(ctx, c.invocation(call), func(resp *http.Response) error {
		reply = newReply(resp)
		n, err := io.Copy(w, resp.Body)
		if err != nil && n > 0 {
			return &callerError{err: &UnknownOutcomeError{RequestID: reply.RequestID, Err: fmt.Errorf("answer ends after %d bytes: %w", n, err)}}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// invocation is the request of a call.
func (c *Client) invocation(call *Call) *request {
	app := call.App
	if app == "" {
		app = "default"
	}
	req := &request{
		method: http.MethodPost, id: call.RequestID, invocation: true, header: http.Header{},
		path: "/v1/apps/" + url.PathEscape(app) + "/functions/" + url.PathEscape(call.Function) + "/invocations",
		body: func() (io.Reader, error) { return bytes.NewReader(call.Body), nil }, size: int64(len(call.Body)),
	}
	if call.Qualifier != "" {
		req.path += "?qualifier=" + url.QueryEscape(call.Qualifier)
	}
	if req.id == "" {
		req.id = newID()
	}
	contentType := call.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	req.header.Set("Content-Type", contentType)
	if call.Trace != "" {
		req.header.Set("Traceparent", call.Trace)
	}
	if call.Key != "" {
		req.header.Set(wire.HeaderKey, call.Key)
	}
	if call.Logs {
		req.header.Set(wire.HeaderLog, "tail")
	}
	for k, v := range call.Attributes {
		req.header.Set(wire.HeaderAttributePrefix+k, v)
	}
	return req
}

// readBody reads the answer whole; with a known length in one allocation.
func readBody(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n >= 0 && n <= 64<<20 {
		body := make([]byte, n)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	return io.ReadAll(resp.Body)
}

// newReply reads what the headers say.
func newReply(resp *http.Response) *Reply {
	h := resp.Header
	reply := &Reply{
		RequestID: h.Get(wire.HeaderRequestID), ContentType: h.Get("Content-Type"), Status: resp.StatusCode,
		Version: h.Get(wire.HeaderVersion), Node: h.Get(wire.HeaderNode),
		Cold: h.Get(wire.HeaderStart) == "cold", Timing: h.Get("Server-Timing"),
	}
	if text := h.Get(wire.HeaderLog); text != "" {
		if logs, err := base64.StdEncoding.DecodeString(text); err == nil {
			reply.Logs = logs
		}
	}
	return reply
}
