package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// maxBody is the largest event, as on a node that nobody has configured.
const maxBody = 6 << 20

// Call is how one call over HTTP went.
type Call struct {
	RequestID    string
	Method, Path string
	Status       int
	Cold         bool
	Took         time.Duration
	Bytes        int64
	Steps        executor.Steps
	// Err is nil when the function answered.
	Err error
}

// Server is the HTTP endpoint of a Runner. It takes any method on any path: the
// body is the event, and the function sees the request as attributes, as on a
// node's route for OpenFaaS. The cluster's own routes for invocations work too.
type Server struct {
	runner *Runner
	done   func(Call)
	http   *http.Server
}

// NewServer returns a server that tells done about each call, from the call's
// goroutine.
func NewServer(r *Runner, done func(Call)) *Server {
	s := &Server{runner: r, done: done}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	return s
}

// Serve answers until ctx ends, and then gives open calls a moment.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		// Bounded here, and by the runner, which ends what goes on.
		bounded, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		_ = s.http.Shutdown(bounded)
	})
	defer stop()
	if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// ServeHTTP runs one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := Call{RequestID: r.Header.Get(wire.HeaderRequestID), Method: r.Method, Path: r.URL.Path}
	if !wire.ValidRequestID(call.RequestID) {
		call.RequestID = ulid.Make().String()
	}
	begin := time.Now()
	if !ours(r) {
		// A page in the developer's browser is not the developer.
		s.fail(w, &call, problem(http.StatusForbidden, wire.CodeDenied, "this endpoint is for this machine alone", call.RequestID))
		return
	}
	call.Err = s.call(w, r, &call)
	call.Took = time.Since(begin)
	if call.Err != nil && call.Status == 0 {
		s.fail(w, &call, Problem(call.Err, call.RequestID))
	}
	s.done(call)
}

// fail writes an error document.
func (s *Server) fail(w http.ResponseWriter, call *Call, p wire.Problem) {
	call.Status = p.Status
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set(wire.HeaderRequestID, call.RequestID)
	h.Set(wire.HeaderError, string(p.Code))
	if p.Code == wire.CodeFunctionError {
		h.Set(wire.HeaderFunctionError, "Unhandled")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that left needs no answer
}

// ours reports whether a request is from this machine and, if from a browser,
// from a page of this machine: a foreign page must not run code here, whatever
// name it got its own server's address under.
func ours(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !loopback(u.Host) {
			return false
		}
	}
	return loopback(r.Host)
}

func loopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// call hands the event over and the answer back. An error comes before the first
// byte of an answer, or else with call.Status set.
func (s *Server) call(w http.ResponseWriter, r *http.Request, call *Call) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	resp, err := s.runner.Invoke(r.Context(), &executor.Request{
		ID: call.RequestID, Attempt: 1, Body: body, ContentType: r.Header.Get("Content-Type"),
		Trace: r.Header.Get("Traceparent"), Attributes: invoke.Attributes(attributes(r)),
	})
	if resp != nil {
		defer resp.Release()
		call.Cold, call.Steps = resp.Cold, resp.Steps
	}
	if err != nil {
		return err
	}
	h := w.Header()
	for _, a := range resp.Attributes {
		if name := http.CanonicalHeaderKey(a.Name); !api.ReservedHeader(name) {
			h.Set(name, a.Value)
		}
	}
	if resp.ContentType != "" {
		h.Set("Content-Type", resp.ContentType)
	}
	h.Set(wire.HeaderRequestID, call.RequestID)
	h.Set(wire.HeaderVersion, s.runner.spec.Load().Key.String())
	h.Set(wire.HeaderStart, map[bool]string{true: "cold", false: "warm"}[resp.Cold])
	if call.Status = resp.Status; call.Status < 200 || call.Status > 599 {
		call.Status = http.StatusOK
	}
	if resp.Stream == nil {
		h.Set("Content-Length", strconv.Itoa(len(resp.Body)))
		w.WriteHeader(call.Status)
		n, _ := w.Write(resp.Body) // a client that left needs no answer
		call.Bytes = int64(n)
		return nil
	}
	w.WriteHeader(call.Status)
	call.Bytes, err = io.Copy(flushing{w, http.NewResponseController(w)}, resp.Stream)
	return err
}

// flushing sends each piece at once.
type flushing struct {
	io.Writer
	c *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	return n, errors.Join(err, f.c.Flush())
}

// attributes are what the function learns beside the event.
func attributes(r *http.Request) map[string]string {
	m := map[string]string{}
	if !strings.HasSuffix(r.URL.Path, "/invocations") {
		m = api.HTTPAttributes(r, r.URL.Path)
	}
	for name, values := range r.Header {
		if attribute, ok := strings.CutPrefix(name, wire.HeaderAttributePrefix); ok && len(values) > 0 {
			m[strings.ToLower(attribute)] = values[0]
		}
	}
	return m
}
