package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// invocation is one call on its way through the front. It lives on the stack of
// its handler; everything large in it is pooled.
type invocation struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	begin time.Time
	id    string
	app   state.AppName
	name  state.FunctionName
	sc    *scratch
	body  []byte
}

// invokeNative serves POST /v1/[apps/{app}/]functions/{name}/invocations.
func (s *Server) invokeNative(w http.ResponseWriter, r *http.Request) {
	in := invocation{s: s, w: w, r: r, begin: time.Now(), id: requestID(r), app: appOf(r), name: state.FunctionName(r.PathValue("name"))}
	defer in.done()
	resp, err := in.callNative()
	if err != nil {
		in.fail(outcomeOf(err), err)
		return
	}
	in.answer(resp)
}

// callNative does everything of a native call up to the answer.
func (in *invocation) callNative() (*invoke.Response, error) {
	r := in.r
	who, err := in.admit()
	if err != nil {
		return nil, err
	}
	req, err := in.read(who)
	if err != nil {
		return nil, err
	}
	if r.URL.RawQuery != "" {
		req.Qualifier = r.URL.Query().Get("qualifier")
	}
	if ms := header(r, wire.HeaderTimeout); ms != "" {
		n, err := strconv.ParseInt(ms, 10, 64)
		if err != nil || n <= 0 {
			return nil, badRequest(wire.HeaderTimeout + " is not a positive number of milliseconds")
		}
		// The cap keeps the sum in range; versions run 15 minutes at most.
		req.Deadline = in.begin.Add(time.Duration(min(n, int64(24*time.Hour/time.Millisecond))) * time.Millisecond)
	}
	req.WantLogs = header(r, wire.HeaderLog) == "tail"
	if header(r, wire.HeaderResend) == wire.ResendUnknown {
		if err := in.repeatable(req); err != nil {
			return nil, err
		}
	}
	for name, values := range r.Header {
		if attribute, ok := strings.CutPrefix(name, wire.HeaderAttributePrefix); ok && len(values) > 0 {
			req.setAttribute(strings.ToLower(attribute), values[0])
		}
	}
	return in.s.cfg.Invoker.Invoke(r.Context(), &req.Request)
}

// attributed adds attributes to a request that most requests do not have.
type attributed struct{ invoke.Request }

func (a *attributed) setAttribute(name, value string) {
	if a.Attributes == nil {
		a.Attributes = map[string]string{}
	}
	a.Attributes[name] = value
}

// admit authenticates and authorises, before a byte of the body is read.
func (in *invocation) admit() (access.Principal, error) {
	who, err := access.Authenticate(in.s.cfg.Control.View(), header(in.r, "Authorization"), in.s.cfg.Clock.Now())
	if err != nil {
		return who, err
	}
	if err := who.Allows(access.Invoke, in.app); err != nil {
		return who, err
	}
	if in.s.draining.Load() {
		return who, invoke.ErrDraining
	}
	return who, nil
}

// take takes the body in.
func (in *invocation) take() error {
	in.sc = in.s.scratch.Get().(*scratch)
	body, err := in.s.readBody(in.w, in.r, in.sc)
	in.body = body
	return err
}

// read prepares the request, with the body, which a signature may have needed
// before.
func (in *invocation) read(who access.Principal) (*attributed, error) {
	if in.sc == nil {
		if err := in.take(); err != nil {
			return nil, err
		}
	}
	req := &in.sc.req
	req.Request = invoke.Request{
		ID: in.id, App: string(in.app), Function: string(in.name), Body: in.body,
		ContentType: header(in.r, "Content-Type"), Trace: traceparent(in.r), Caller: string(who.ID),
		Key: header(in.r, wire.HeaderKey),
	}
	return req, nil
}

// repeatable refuses a call that is sent again after an unknown outcome, unless
// every version that it may reach declares itself idempotent.
func (in *invocation) repeatable(req *attributed) error {
	view := in.s.cfg.Control.View()
	for _, pick := range []float64{0, 1} { // the two ends of a weighted pair
		v, err := view.Resolve(in.app, in.name, req.Qualifier, pick)
		if err != nil {
			return err
		}
		if !v.Config.GetIdempotent() {
			return refusal(http.StatusConflict, wire.CodeNotIdempotent,
				"the call may have run before, and the function does not declare itself idempotent")
		}
	}
	return nil
}

// done gives memory back. The path is finished with the body when Invoke has
// returned; a body is pooled only then.
func (in *invocation) done() {
	if in.sc == nil {
		return
	}
	if len(in.body) > smallBody {
		in.s.buffers.put(in.body)
	}
	in.sc.req.Request = invoke.Request{}
	in.s.scratch.Put(in.sc)
}

// fail answers with an error and counts it.
func (in *invocation) fail(o outcome, err error) {
	if o.code == wire.CodeInternal {
		in.s.log.Error().Err(err).Str("invocation", in.id).Msg("invocation failed inside")
	}
	if in.s.draining.Load() {
		in.w.Header().Set("Connection", "close")
	}
	o.write(in.w, in.id)
	in.countFailure(o.status)
}

// countFailure records a call that may have named a function that is not there.
// Such a name is the caller's choice and must not become a label.
func (in *invocation) countFailure(status int) {
	if in.s.cfg.Control.View().Function(in.app, in.name) == nil {
		in.s.metrics.invoked("", "", status, time.Since(in.begin))
		return
	}
	in.count(status)
}

// count records a call of a function that exists.
func (in *invocation) count(status int) {
	in.s.metrics.invoked(string(in.app), string(in.name), status, time.Since(in.begin))
}

// answer sends what the function answered.
func (in *invocation) answer(resp *invoke.Response) {
	defer resp.Release()
	if resp.FunctionError != nil {
		o := functionOutcome(resp.FunctionError)
		in.describe(in.w.Header(), resp, -1)
		o.write(in.w, in.id)
		in.count(o.status)
		return
	}
	status := in.functionHeaders(resp)
	if resp.Stream != nil {
		in.describe(in.w.Header(), resp, -1)
		in.w.WriteHeader(status)
		in.stream(resp.Stream)
		in.count(status)
		return
	}
	in.describe(in.w.Header(), resp, len(resp.Body))
	in.w.WriteHeader(status)
	if len(resp.Body) > 0 && in.r.Method != http.MethodHead {
		_, _ = in.w.Write(resp.Body) // a client that left shows in the context
	}
	in.count(status)
}

// functionHeaders applies what the function asked for in its HTTP answer, and
// returns the status. It cannot speak in the platform's name.
func (in *invocation) functionHeaders(resp *invoke.Response) int {
	h := in.w.Header()
	for i, a := range resp.Headers {
		name := http.CanonicalHeaderKey(a.Name)
		switch {
		case ReservedHeader(name):
		case resp.Headers[:i].Get(a.Name) != "":
			h[name] = append(h[name], a.Value)
		default: // what the function says replaces what was there
			h[name] = []string{a.Value}
		}
	}
	if resp.Status < 200 || resp.Status > 599 {
		return http.StatusOK
	}
	return resp.Status
}

// ReservedHeader tells the headers that describe the connection or carry the
// platform's word.
func ReservedHeader(canonical string) bool {
	switch canonical {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade",
		"Content-Length", "Date", "Server-Timing", "Www-Authenticate":
		return true
	}
	return strings.HasPrefix(canonical, "X-Covey-") || strings.HasPrefix(canonical, "X-Amz") || strings.HasPrefix(canonical, "X-Call-Id")
}

// stream copies a streamed answer, each part as soon as the function gives it.
// An answer that breaks off is cut, so that no client takes it for whole.
func (in *invocation) stream(body io.Reader) {
	flusher, _ := in.w.(http.Flusher)
	if flusher != nil {
		flusher.Flush() // the caller learns at once that the function answers
	}
	buf := in.s.buffers.get(1 << leastClass)
	defer in.s.buffers.put(buf)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, werr := in.w.Write(buf[:n]); werr != nil {
				return
			}
			if flusher != nil {
				flusher.Flush()
			}
		}
		if err == nil {
			continue
		}
		if err != io.EOF {
			in.count(statusOf(in.r.Context()))
			// net/http's own way to cut an answer short; it is not logged.
			panic(http.ErrAbortHandler)
		}
		return
	}
}

// statusOf tells a caller that left from a function that broke off.
func statusOf(ctx context.Context) int {
	if ctx.Err() != nil {
		return statusClientGone
	}
	return http.StatusBadGateway
}

// traceparent returns the caller's W3C trace context if it looks like one.
func traceparent(r *http.Request) string {
	t := header(r, "Traceparent")
	if len(t) < 55 || len(t) > 128 || t[2] != '-' || t[35] != '-' || t[52] != '-' {
		return ""
	}
	return t
}
