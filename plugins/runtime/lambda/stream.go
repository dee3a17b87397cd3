package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	// preludeType announces that status and headers come before the body.
	preludeType = "application/vnd.awslambda.http-integration-response"
	// maxPrelude is more than any HTTP server takes as headers.
	maxPrelude = 1 << 20
	// chunkSize is how much of a streamed answer is passed on at once.
	chunkSize = 32 << 10
)

// preludeEnd separates status and headers from the body.
var preludeEnd = make([]byte, 8)

// serveStream passes a streamed answer on as it comes. When its reader is gone the rest is read all the same,
// because the function cannot be told.
func (h *host) serveStream(c *conn, r *http.Request, call *call) bool {
	body := io.Reader(r.Body)
	if t := r.Header.Get("Content-Type"); strings.HasPrefix(t, preludeType) {
		rest, err := readPrelude(call, body)
		if err != nil {
			return h.badPrelude(c, r, call, err)
		}
		body = rest
	} else if t != "" {
		covey.SetContentType(call.ctx, t)
	}
	werr, err := pass(call.w, body)
	if err != nil {
		h.brokenOff(call, err)
		return false
	}
	failure := trailed(r)
	if failure == nil {
		failure = werr
	}
	h.answered(call, result{err: failure})
	return c.answer(http.StatusAccepted, accepted)
}

// badPrelude ends a call whose answer has no readable status and headers.
func (h *host) badPrelude(c *conn, r *http.Request, call *call, err error) bool {
	if _, broken := io.Copy(io.Discard, r.Body); broken != nil {
		h.brokenOff(call, broken)
		return false
	}
	// A function that fails before it has written anything reports only that.
	failure := trailed(r)
	if failure == nil {
		failure = &covey.Error{Type: "Runtime.InvalidPrelude", Message: err.Error(), Unhandled: true}
	}
	h.answered(call, result{err: failure})
	return c.answer(http.StatusAccepted, accepted)
}

// pass copies r to w to its end. The two errors are those of writing and of reading.
func pass(w io.Writer, r io.Reader) (werr, rerr error) {
	buf := make([]byte, chunkSize)
	for {
		n, err := r.Read(buf)
		if n > 0 && werr == nil {
			_, werr = w.Write(buf[:n])
		}
		if errors.Is(err, io.EOF) {
			return werr, nil
		}
		if err != nil {
			return werr, err
		}
	}
}

// trailed returns the error that the function hung at the end of its answer, or nil.
func trailed(r *http.Request) error {
	typ, encoded := r.Trailer.Get(headerErrorType), r.Trailer.Get(headerErrorBody)
	if typ == "" && encoded == "" {
		return nil
	}
	body, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		body = []byte(encoded)
	}
	return failureOf(typ, body)
}

// prelude is what an HTTP caller gets before the body.
type prelude struct {
	Status            int                 `json:"statusCode"`
	Headers           map[string]any      `json:"headers"`
	MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
	Cookies           []string            `json:"cookies"`
}

// readPrelude takes status and headers off the front of an answer and returns the rest.
func readPrelude(call *call, body io.Reader) (io.Reader, error) {
	var head []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := body.Read(buf)
		// The end may have come in two pieces.
		from := max(0, len(head)-len(preludeEnd))
		head = append(head, buf[:n]...)
		if i := bytes.Index(head[from:], preludeEnd); i >= 0 {
			i += from
			var p prelude
			if err := json.Unmarshal(head[:i], &p); err != nil {
				return nil, fmt.Errorf("read status and headers of the answer: %w", err)
			}
			p.apply(call)
			return io.MultiReader(bytes.NewReader(head[i+len(preludeEnd):]), body), nil
		}
		switch {
		case len(head) > maxPrelude:
			return nil, errors.New("the answer's status and headers have no end")
		case err != nil:
			return nil, fmt.Errorf("read status and headers of the answer: %w", err)
		}
	}
}

// apply says to the node what the prelude says to Lambda.
func (p *prelude) apply(call *call) {
	covey.SetStatus(call.ctx, p.Status)
	set := func(name, value string) {
		if strings.EqualFold(name, "Content-Type") {
			covey.SetContentType(call.ctx, value)
			return
		}
		covey.SetAttribute(call.ctx, name, value)
	}
	for name, value := range p.Headers {
		set(name, fmt.Sprint(value))
	}
	for name, values := range p.MultiValueHeaders {
		set(name, strings.Join(values, ", "))
	}
	for _, cookie := range p.Cookies {
		set("Set-Cookie", cookie)
	}
}
