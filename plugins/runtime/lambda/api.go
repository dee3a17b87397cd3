package lambda

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	apiVersion = "2018-06-01"
	accepted   = `{"status":"OK"}` + "\n"
	// maxError is how much of an error's description is read.
	maxError = 1 << 20
	// defaultMaxOutput is Lambda's limit, for a node that names none.
	defaultMaxOutput = 6<<20 + 100
	// exitPatience is how long a program whose answer broke off may take to end. It does so at once, if that
	// is why.
	exitPatience = 250 * time.Millisecond

	headerErrorType    = "Lambda-Runtime-Function-Error-Type"
	headerErrorBody    = "Lambda-Runtime-Function-Error-Body"
	headerResponseMode = "Lambda-Runtime-Function-Response-Mode"
)

// emptyEvent is what a function gets for a call without a payload: events are JSON.
var emptyEvent = []byte("{}")

// apiError is a refusal in the form that runtime interface clients know.
type apiError struct {
	status  int
	typ     string
	message string
}

func (e *apiError) body() string {
	b, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{e.message, e.typ})
	if err != nil {
		return `{"errorMessage":"","errorType":"InternalServerError"}`
	}
	return string(b) + "\n"
}

// refuse answers with an error. It reports whether the connection can go on.
func (c *conn) refuse(e *apiError) bool { return c.answer(e.status, e.body()) }

// route serves one request, and reports whether the connection can go on.
func (h *host) route(c *conn, in *bufio.Reader, r *http.Request) bool {
	path, ok := strings.CutPrefix(r.URL.Path, "/"+apiVersion+"/")
	if !ok {
		return c.refuse(&apiError{404, "NotFound", "this is the Lambda Runtime API, version " + apiVersion})
	}
	want := http.MethodPost
	var serve func() bool
	switch path {
	case "ping":
		want, serve = http.MethodGet, func() bool { return c.answer(http.StatusOK, "pong") }
	case "runtime/invocation/next":
		want, serve = http.MethodGet, func() bool { return h.serveNext(c, in) }
	case "runtime/init/error":
		serve = func() bool { return h.serveInitError(c, r) }
	default:
		rest, ok := strings.CutPrefix(path, "runtime/invocation/")
		id, verb, found := cutLast(rest, '/')
		switch {
		case ok && found && verb == "response":
			serve = func() bool { return h.serveResponse(c, r, id) }
		case ok && found && verb == "error":
			serve = func() bool { return h.serveError(c, r, id) }
		default:
			return c.refuse(&apiError{404, "NotFound", "there is no " + path})
		}
	}
	if r.Method != want {
		return c.refuse(&apiError{405, "MethodNotAllowed", path + " takes " + want})
	}
	return serve()
}

// serveNext waits for an event. Meanwhile nothing but the end of the connection can come on it, and a client that
// sends its next request early waits its turn.
func (h *host) serveNext(c *conn, in *bufio.Reader) bool {
	p, refused := h.poll(c)
	if refused != nil {
		return c.refuse(refused)
	}
	if _, err := in.Peek(1); err != nil {
		h.giveUp(p)
		return false
	}
	<-p.over
	return true
}

// serveInitError takes the reason why the program cannot initialise.
func (h *host) serveInitError(c *conn, r *http.Request) bool {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxError))
	if err != nil {
		return false
	}
	if refused := h.initFailed(failureOf(r.Header.Get(headerErrorType), body)); refused != nil {
		return c.refuse(refused)
	}
	return c.answer(http.StatusAccepted, accepted)
}

// serveError takes a call's error.
func (h *host) serveError(c *conn, r *http.Request, id string) bool {
	call, refused := h.answering(id)
	if refused != nil {
		return c.refuse(refused)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxError))
	if err != nil {
		h.brokenOff(call, err)
		return false
	}
	h.answered(call, result{err: failureOf(r.Header.Get(headerErrorType), body)})
	return c.answer(http.StatusAccepted, accepted)
}

// serveResponse takes a call's answer.
func (h *host) serveResponse(c *conn, r *http.Request, id string) bool {
	mode := r.Header.Get(headerResponseMode)
	streaming := strings.EqualFold(mode, "streaming") || mode == "" && streamsUnsaid(r)
	if mode != "" && !streaming && !strings.EqualFold(mode, "buffered") {
		return c.refuse(&apiError{400, "InvalidFunctionResponseMode", "the response mode " + mode + " is unknown"})
	}
	call, refused := h.answering(id)
	if refused != nil {
		return c.refuse(refused)
	}
	if streaming {
		return h.serveStream(c, r, call)
	}
	most := covey.MaxOutput(call.ctx)
	if most == 0 {
		most = defaultMaxOutput
	}
	body, err := readBody(r, most)
	switch {
	case errors.Is(err, errTooLarge):
		message := fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", most)
		h.answered(call, result{err: &covey.Error{Type: "ResponseTooLarge", Message: message}})
		return c.refuse(&apiError{413, "RequestEntityTooLarge", message})
	case err != nil:
		h.brokenOff(call, err)
		return false
	}
	if failure := trailed(r); failure != nil {
		h.answered(call, result{err: failure})
		return c.answer(http.StatusAccepted, accepted)
	}
	if t := r.Header.Get("Content-Type"); t != "" {
		covey.SetContentType(call.ctx, t)
	}
	h.answered(call, result{body: body})
	return c.answer(http.StatusAccepted, accepted)
}

// streamsUnsaid tells a streamed answer of AWS's client for Go, which sends all answers alike, in chunks and ready to
// report an error behind them: those of handlers that return values are JSON, those of readers are not.
func streamsUnsaid(r *http.Request) bool {
	_, announced := r.Trailer[headerErrorType]
	return announced && r.ContentLength < 0 && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
}

// brokenOff ends a call whose answer did not arrive whole. If the program is gone the whole instance ends, which
// says more.
func (h *host) brokenOff(call *call, err error) {
	// The connection must not count as open meanwhile, because the handling of the program's end waits for it.
	time.AfterFunc(exitPatience, func() {
		h.answered(call, result{err: &covey.Error{
			Type: "Runtime.TruncatedResponse", Message: "the function's answer broke off: " + err.Error(), Unhandled: true,
		}})
	})
}

var errTooLarge = errors.New("too large")

// readBody reads a whole answer of up to most bytes.
func readBody(r *http.Request, most int64) ([]byte, error) {
	if r.ContentLength > most {
		return nil, errTooLarge
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if err == nil && int64(len(body)) > most {
		return nil, errTooLarge
	}
	return body, err
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
