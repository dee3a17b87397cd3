package api

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// Attributes of a call that came in OpenFaaS's way. Headers follow under
// AttributeHeaderPrefix and their name in lower case.
const (
	AttributeMethod       = "http-method"
	AttributePath         = "http-path"
	AttributeQuery        = "http-query"
	AttributeHost         = "http-host"
	AttributeRemote       = "http-remote"
	AttributeHeaderPrefix = "http-header-"
)

// invokeOpenFaaS serves any method on /function/NAME[.APP][/path]. The function
// sees the HTTP request as attributes, and may choose status and headers.
func (s *Server) invokeOpenFaaS(w http.ResponseWriter, r *http.Request) {
	in := invocation{s: s, w: w, r: r, begin: time.Now(), id: callID(r)}
	defer in.done()
	name, app, ok := strings.Cut(r.PathValue("name"), ".")
	if !ok {
		app = string(state.DefaultApp)
	}
	in.app, in.name = state.AppName(app), state.FunctionName(name)
	h := w.Header()
	h["X-Call-Id"] = []string{in.id}
	h["X-Start-Time"] = []string{strconv.FormatInt(in.begin.UnixNano(), 10)}
	resp, err := in.callOpenFaaS()
	h["X-Duration-Seconds"] = []string{strconv.FormatFloat(time.Since(in.begin).Seconds(), 'f', 6, 64)}
	if err != nil {
		in.fail(outcomeOf(err), err)
		return
	}
	h["X-Served-By"] = []string{"covey"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	in.answer(resp)
}

// callOpenFaaS does everything of a call up to the answer.
func (in *invocation) callOpenFaaS() (*invoke.Response, error) {
	who, err := in.admit()
	if err != nil {
		return nil, err
	}
	req, err := in.read(who)
	if err != nil {
		return nil, err
	}
	req.Attributes = HTTPAttributes(in.r, "/"+in.r.PathValue("path"))
	return in.s.cfg.Invoker.Invoke(in.r.Context(), &req.Request)
}

// callID is the request id of an OpenFaaS caller, who has his own header for it.
func callID(r *http.Request) string {
	if id := header(r, "X-Call-Id"); id != "" && wire.ValidRequestID(id) {
		return id
	}
	return requestID(r)
}

// HTTPAttributes describes an HTTP request to a function, which sees it as one on
// the given path. The caller's token and what belongs to the connection stay here.
func HTTPAttributes(r *http.Request, path string) map[string]string {
	attributes := map[string]string{
		AttributeMethod: r.Method,
		AttributePath:   path,
		AttributeQuery:  r.URL.RawQuery,
		AttributeHost:   r.Host,
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		attributes[AttributeRemote] = host
	}
	for name, values := range r.Header {
		if name == "Authorization" || name == "Proxy-Authorization" || ReservedHeader(name) {
			continue
		}
		attributes[AttributeHeaderPrefix+strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return attributes
}
