package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// The attributes in which the node describes a web request.
const (
	attributeMethod       = "http-method"
	attributePath         = "http-path"
	attributeQuery        = "http-query"
	attributeHost         = "http-host"
	attributeRemote       = "http-remote"
	attributeHeaderPrefix = "http-header-"
)

const (
	// headerErrorType makes an answer an error of the function, as a header or as a trailer.
	headerErrorType = "X-Covey-Error-Type"
	// headerUnhandled, if "true", says that the function fell over it.
	headerUnhandled = "X-Covey-Error-Unhandled"
	// maxErrorBody is as much of an error's body as is its message.
	maxErrorBody = 64 << 10
)

// handle sends one call to the server.
func (s *server) handle(ctx context.Context, payload []byte, w io.Writer) ([]byte, error) {
	i := covey.FromContext(ctx)
	done := s.host.api.enter(ctx, i.RequestID)
	defer done()
	defer func() { used, peak := s.usage(); covey.AddUsage(ctx, used, peak) }()
	request, err := s.request(ctx, &i, payload)
	if err != nil {
		return nil, covey.Errorf("BadRequest", "make the request: %v", err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, s.broken(ctx, err)
	}
	defer response.Body.Close()
	if response.Header.Get(headerErrorType) != "" {
		return nil, s.failed(ctx, response)
	}
	covey.SetStatus(ctx, response.StatusCode)
	covey.SetContentType(ctx, response.Header.Get("Content-Type"))
	for name, values := range response.Header {
		if name != "Content-Type" && !ofConnection(name) {
			for _, value := range values {
				covey.SetAttribute(ctx, name, value)
			}
		}
	}
	if response.ContentLength < 0 {
		return nil, s.stream(ctx, response, w)
	}
	return s.whole(ctx, response)
}

// request is the call as the web request that it was, or as a POST.
func (s *server) request(ctx context.Context, i *covey.Invocation, payload []byte) (*http.Request, error) {
	method, path, others := i.Attributes[attributeMethod], i.Attributes[attributePath], map[string]string{}
	if method == "" {
		method = http.MethodPost
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	request, err := http.NewRequestWithContext(ctx, method, s.base, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	request.URL.Path = path // which came decoded
	request.URL.RawQuery = i.Attributes[attributeQuery]
	for name, value := range i.Attributes {
		header, ok := strings.CutPrefix(name, attributeHeaderPrefix)
		switch {
		case ok && !ofConnection(http.CanonicalHeaderKey(header)):
			request.Header.Set(header, value)
		case name == attributeHost:
			request.Host = value
		case name == attributeRemote:
			request.Header.Set("X-Forwarded-For", value)
		case !ok && name != attributeMethod && name != attributePath && name != attributeQuery:
			others[name] = value
		}
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", "") // net/http would speak in the caller's name
	}
	describe(request.Header, i, others)
	return request, nil
}

// describe adds what is known of the call, over anything that a caller may have sent in these names.
func describe(h http.Header, i *covey.Invocation, attributes map[string]string) {
	for name := range h {
		if strings.HasPrefix(name, "X-Covey-") {
			h.Del(name)
		}
	}
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Type", i.ContentType)
	set("Traceparent", i.Trace)
	set(headerRequestID, i.RequestID)
	set("X-Covey-Attempt", strconv.Itoa(i.Attempt))
	set("X-Covey-App", i.App)
	set("X-Covey-Function", i.Function)
	set("X-Covey-Version", strconv.FormatUint(i.Version, 10))
	set("X-Covey-Node", i.Node)
	if i.Depth > 0 {
		set("X-Covey-Depth", strconv.Itoa(i.Depth))
	}
	if !i.Deadline.IsZero() {
		set("X-Covey-Deadline-Ms", strconv.FormatInt(i.Deadline.UnixMilli(), 10))
	}
	if len(attributes) > 0 {
		// Strings always encode. Headers take no line ends, and JSON has none.
		all, _ := json.Marshal(attributes)
		set("X-Covey-Attributes", string(all))
	}
}

// ofConnection tells the headers that speak of one connection, not of the message.
func ofConnection(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length":
		return true
	}
	return false
}

// whole returns an output whose size is known.
func (s *server) whole(ctx context.Context, response *http.Response) ([]byte, error) {
	size := response.ContentLength
	if most := covey.MaxOutput(ctx); most > 0 && size > most {
		return nil, covey.Errorf("ResponseTooLarge", "output of %d bytes, %d allowed; leave out the Content-Length to stream it", size, most)
	}
	if response.Request.Method == http.MethodHead {
		size = 0
	}
	output := make([]byte, size)
	if _, err := io.ReadFull(response.Body, output); err != nil {
		return nil, s.broken(ctx, err)
	}
	return output, nil
}

// stream passes an output on as it comes.
func (s *server) stream(ctx context.Context, response *http.Response, w io.Writer) error {
	b, _ := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		n, err := response.Body.Read(*b)
		if n > 0 {
			if _, werr := w.Write((*b)[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return s.broken(ctx, err)
		case response.Trailer.Get(headerErrorType) != "":
			return &covey.Error{
				Type: response.Trailer.Get(headerErrorType), Message: response.Trailer.Get("X-Covey-Error-Message"),
				Unhandled: response.Trailer.Get(headerUnhandled) == "true",
			}
		default:
			return nil
		}
	}
}

// failed is the error that an answer says it is. A body in JSON has the fields that [stdio.Stderr.Failure] reads.
func (s *server) failed(ctx context.Context, response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
	if err != nil {
		return s.broken(ctx, err)
	}
	failure := &covey.Error{
		Type: response.Header.Get(headerErrorType), Message: strings.TrimSpace(string(body)),
		Unhandled: response.Header.Get(headerUnhandled) == "true",
	}
	var fields struct {
		Message string `json:"errorMessage"`
		Stack   string `json:"stackTrace"`
	}
	if json.Unmarshal(body, &fields) == nil && fields.Message != "" {
		failure.Message, failure.Stack = fields.Message, fields.Stack
	}
	return failure
}

// broken is the error of a request that got no answer, or half of one. If the server has died of it, this process
// dies too and the node concludes the rest.
func (s *server) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return stdio.Expired(ctx)
	}
	select {
	case <-s.dead:
		select {} // [server.follow] ends the process.
	case <-time.After(deathWait):
	}
	return s.output.failure("NoAnswer", fmt.Sprintf("the server broke the request off (%v)", err))
}
