package covey

import (
	"context"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// Invocation is what a handler can know about its call.
type Invocation struct {
	// RequestID is the same in every attempt at one call.
	RequestID string
	// Attempt counts from 1. A higher one says that an earlier attempt may have had effects.
	Attempt int
	// App, Function and Version say what runs.
	App, Function string
	Version       uint64
	// Node is the id of the node that runs it.
	Node string
	// Deadline is when the caller gives up and the instance is ended; zero means never. The context has it too.
	Deadline time.Time
	// ContentType is the payload's.
	ContentType string
	// Trace is a W3C traceparent, or empty.
	Trace string
	// Depth counts how many functions called each other up to this call.
	Depth int
	// Attributes came with the call, such as the HTTP method and path of a web request.
	Attributes map[string]string
}

// FromContext returns the invocation that ctx belongs to. Outside a handler it returns the zero Invocation.
func FromContext(ctx context.Context) Invocation {
	if c := fromContext(ctx); c != nil {
		return c.invocation
	}
	return Invocation{}
}

// NewContext returns a context that belongs to the invocation, to test a handler without a node. What the
// handler sets (content type, status, attributes) goes nowhere, and host calls fail.
func NewContext(parent context.Context, i Invocation) context.Context {
	return &call{Context: parent, invocation: i}
}

func (i *Invocation) fill(head *frame.Invoke) {
	i.RequestID = head.RequestID
	i.Attempt = int(head.Attempt)
	i.App, i.Function, i.Version = head.App, head.Function, head.Version
	i.Node = head.Node
	i.ContentType = head.ContentType
	i.Trace = head.Trace
	i.Depth = int(head.Depth)
	i.Attributes = toMap(head.Attributes)
}

func toMap(attributes frame.Attributes) map[string]string {
	if len(attributes) == 0 {
		return nil
	}
	m := make(map[string]string, len(attributes))
	for _, a := range attributes {
		m[a.Name] = a.Value
	}
	return m
}

// SetContentType sets the content type of the output.
func SetContentType(ctx context.Context, contentType string) {
	if c := fromContext(ctx); c != nil {
		c.result.ContentType = contentType
	}
}

// SetStatus sets the HTTP status that a web caller sees, if the route passes it on. It does not make the call a failure.
func SetStatus(ctx context.Context, status int) {
	if c := fromContext(ctx); c != nil && status >= 100 && status <= 999 {
		c.result.Status = uint16(status)
	}
}

// SetAttribute adds an attribute to the output, such as an HTTP header for a web caller. The setters must
// not be used by several goroutines of one call at once.
func SetAttribute(ctx context.Context, name, value string) {
	if c := fromContext(ctx); c != nil {
		c.result.Attributes = append(c.result.Attributes, frame.Attribute{Name: name, Value: value})
	}
}
