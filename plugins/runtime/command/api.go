package command

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	// headerRequestID names the call on whose behalf something is asked, or that a request is.
	headerRequestID = "X-Covey-Request-Id"
	// maxHostInput is the most that a host call takes. The node has the last word.
	maxHostInput = 64 << 20
)

// api is the web server on the instance's loopback that makes host calls for the program. Its address is in COVEY_API.
// A process of the mode stdio gets one that names its call; a web server sends the call's request id in the header
// X-Covey-Request-Id, or leaves it out if the instance takes one call at a time.
//
//	POST $COVEY_API/invoke/NAME[:QUALIFIER]
//
// invokes another function of the same app with the body, within the call's deadline. The answer is its output with
// status 200; 502 with {"errorType", "errorMessage", "stackTrace", "unhandled"} for an error of that function; 503 with the
// same fields if it did not start, so that it may be tried again; 400 if the request belongs to no running call.
//
// There are no credentials: who reaches the address is inside the instance.
type api struct {
	listener net.Listener

	mu    sync.Mutex
	calls map[string]*apiCall // by request id
}

// apiCall is a running call. An attempt that overlaps with an earlier one takes its place.
type apiCall struct{ ctx context.Context }

func newAPI() *api { return &api{calls: make(map[string]*apiCall)} }

// listen opens the server before anybody knows for whom.
func (a *api) listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.listener = listener
	mux := http.NewServeMux()
	mux.HandleFunc("POST /invoke/{name}", a.invoke)
	mux.HandleFunc("POST /calls/{id}/invoke/{name}", a.invoke)
	server := &http.Server{Handler: mux, MaxHeaderBytes: 64 << 10}
	// It serves until the process ends.
	go func() { _ = server.Serve(listener) }()
	return nil
}

// address is what goes into COVEY_API: for one call, or for all.
func (a *api) address(requestID string) string {
	switch {
	case a.listener == nil:
		return ""
	case requestID == "":
		return "http://" + a.listener.Addr().String()
	}
	return "http://" + a.listener.Addr().String() + "/calls/" + url.PathEscape(requestID)
}

// enter makes the call known until the returned function is called.
func (a *api) enter(ctx context.Context, requestID string) (leave func()) {
	c := &apiCall{ctx: ctx}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[requestID] = c
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.calls[requestID] == c {
			delete(a.calls, requestID)
		}
	}
}

// call returns the context of the call that a request belongs to, or nil.
func (a *api) call(r *http.Request) context.Context {
	id := r.PathValue("id")
	if id == "" {
		id = r.Header.Get(headerRequestID)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if id == "" && len(a.calls) == 1 {
		for _, only := range a.calls {
			return only.ctx
		}
	}
	if c := a.calls[id]; c != nil {
		return c.ctx
	}
	return nil
}

func (a *api) invoke(w http.ResponseWriter, r *http.Request) {
	call := a.call(r)
	if call == nil {
		answerError(w, http.StatusBadRequest, &covey.Error{Type: "NoCall", Message: "no running call has this request id"})
		return
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHostInput))
	if err != nil {
		answerError(w, http.StatusBadRequest, &covey.Error{Type: "BadBody", Message: err.Error()})
		return
	}
	// The host call ends with its call, and with the program's request for it.
	ctx, cancel := context.WithCancel(call)
	defer cancel()
	stop := context.AfterFunc(r.Context(), cancel)
	defer stop()
	output, err := covey.Invoke(ctx, r.PathValue("name"), payload)
	if err == nil {
		_, _ = w.Write(output)
		return
	}
	status := http.StatusBadGateway
	if errors.Is(err, covey.ErrNotStarted) {
		status = http.StatusServiceUnavailable
	}
	answerError(w, status, err)
}

// answerError answers in the form that a program can hand on as its own error.
func answerError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(stdio.Encode(err), '\n'))
}
