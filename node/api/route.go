package api

import (
	"errors"
	"net/http"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4"
	"github.com/covey-dev/covey/node/client/wire"
)

// place says what a route's action is on, which decides what a token that is
// confined to an app may do there.
type place uint8

const (
	// onApp is the app in the path, or the default one where the path has none.
	onApp place = iota
	// onCluster is the cluster as a whole: never for a confined token.
	onCluster
	// onVisible is whatever the caller may see: the handler filters.
	onVisible
)

// route is one line of the API. The mux, the access test and the test of
// openapi.yaml all read the same table.
type route struct {
	method string // empty means any
	path   string // as ServeMux has it
	action access.Action
	on     place
	// Exactly one of these serves. handle is for management; invoke is the fast
	// path, which authenticates by itself; open needs no token.
	handle func(*Server, *call) error
	invoke func(*Server, http.ResponseWriter, *http.Request)
	open   func(*Server, http.ResponseWriter, *http.Request)
}

func (rt route) pattern() string {
	if rt.method == "" {
		return rt.path
	}
	return rt.method + " " + rt.path
}

// routes is the whole API; see the comment of each handler.
func routes() []route {
	const function = "/v1/apps/{app}/functions/{name}"
	return []route{
		{method: "POST", path: "/v1/functions/{name}/invocations", action: access.Invoke, invoke: (*Server).invokeNative},
		{method: "POST", path: function + "/invocations", action: access.Invoke, invoke: (*Server).invokeNative},
		{method: "POST", path: "/2015-03-31/functions/{name}/invocations", action: access.Invoke, invoke: (*Server).invokeLambda},
		{path: "/function/{name}", action: access.Invoke, invoke: (*Server).invokeOpenFaaS},
		{path: "/function/{name}/{path...}", action: access.Invoke, invoke: (*Server).invokeOpenFaaS},

		{method: "GET", path: "/v1/apps", action: access.Read, on: onVisible, handle: (*Server).listApps},
		{method: "PUT", path: "/v1/apps/{app}/limits", action: access.Admin, on: onCluster, handle: (*Server).putLimits},
		{method: "GET", path: "/v1/apps/{app}/logs", action: access.Read, handle: (*Server).logs},
		{method: "GET", path: "/v1/functions", action: access.Read, on: onVisible, handle: (*Server).listFunctions},
		{method: "GET", path: "/v1/apps/{app}/functions", action: access.Read, handle: (*Server).listFunctions},
		{method: "PUT", path: function, action: access.Deploy, handle: (*Server).deploy},
		{method: "GET", path: function, action: access.Read, handle: (*Server).describe},
		{method: "DELETE", path: function, action: access.Deploy, handle: (*Server).deleteFunction},
		{method: "GET", path: function + "/versions", action: access.Read, handle: (*Server).listVersions},
		{method: "GET", path: function + "/versions/{version}", action: access.Read, handle: (*Server).getVersion},
		{method: "POST", path: function + "/versions/{version}/warm", action: access.Deploy, handle: (*Server).warmVersion},
		{method: "DELETE", path: function + "/versions/{version}", action: access.Deploy, handle: (*Server).deleteVersion},
		{method: "GET", path: function + "/aliases", action: access.Read, handle: (*Server).listAliases},
		{method: "GET", path: function + "/aliases/{alias}", action: access.Read, handle: (*Server).getAlias},
		{method: "PUT", path: function + "/aliases/{alias}", action: access.Deploy, handle: (*Server).putAlias},
		{method: "DELETE", path: function + "/aliases/{alias}", action: access.Deploy, handle: (*Server).deleteAlias},
		{method: "POST", path: function + "/rollback", action: access.Deploy, handle: (*Server).rollback},
		{method: "GET", path: function + "/logs", action: access.Read, handle: (*Server).logs},
		{method: "POST", path: "/v1/code", action: access.Deploy, on: onVisible, handle: (*Server).uploadCode},

		{method: "GET", path: "/v1/status", action: access.Read, on: onCluster, handle: (*Server).status},
		{method: "GET", path: "/v1/nodes", action: access.Read, on: onCluster, handle: (*Server).listNodes},
		{method: "POST", path: "/v1/nodes/{node}/drain", action: access.Admin, on: onCluster, handle: (*Server).drainNode},
		{method: "DELETE", path: "/v1/nodes/{node}", action: access.Admin, on: onCluster, handle: (*Server).removeNode},
		{method: "GET", path: "/v1/tokens", action: access.Admin, on: onCluster, handle: (*Server).listTokens},
		{method: "POST", path: "/v1/tokens", action: access.Admin, on: onCluster, handle: (*Server).createToken},
		{method: "DELETE", path: "/v1/tokens/{token}", action: access.Admin, on: onCluster, handle: (*Server).revokeToken},
		{method: "POST", path: "/v1/join-tokens", action: access.Admin, on: onCluster, handle: (*Server).createJoinToken},
		{method: "GET", path: "/v1/usage", action: access.Read, on: onVisible, handle: (*Server).usage},
		{method: "GET", path: "/v1/top", action: access.Read, on: onCluster, handle: (*Server).top},
		{method: "GET", path: "/v1/explain/{request}", action: access.Read, on: onVisible, handle: (*Server).explain},
		{method: "GET", path: "/v1/backup", action: access.Admin, on: onCluster, handle: (*Server).backup},
		{method: "GET", path: "/v1/openapi.yaml", action: access.Read, on: onVisible, handle: (*Server).openAPI},
		{method: "GET", path: "/metrics", action: access.Read, on: onCluster, handle: (*Server).serveMetrics},

		{method: "GET", path: "/livez", open: (*Server).livez},
		{method: "GET", path: "/readyz", open: (*Server).readyz},
		// Whatever no other route takes, also for the wrong method of a path.
		{path: "/", action: access.Read, on: onVisible, handle: (*Server).unknown},
	}
}

// call is one management request.
type call struct {
	w   http.ResponseWriter
	r   *http.Request
	id  string
	who access.Principal
}

// handler is what the mux calls for a route.
func (s *Server) handler(rt route) http.Handler {
	switch {
	case rt.open != nil:
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rt.open(s, w, r) })
	case rt.invoke != nil:
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rt.invoke(s, w, r) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.manage(rt, w, r) })
}

// manage authenticates, authorises and answers one management request.
func (s *Server) manage(rt route, w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, id: requestID(r)}
	if s.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	err := s.admit(rt, c)
	if err == nil {
		w.Header().Set(wire.HeaderRequestID, c.id)
		err = rt.handle(s, c)
	}
	if err != nil {
		s.fail(c, err)
		s.metrics.managed(rt.pattern(), outcomeOf(err).status)
		return
	}
	s.metrics.managed(rt.pattern(), http.StatusOK)
}

// admit finds out who is asking and whether he may.
func (s *Server) admit(rt route, c *call) error {
	who, err := access.Authenticate(s.cfg.Control.View(), header(c.r, "Authorization"), s.cfg.Clock.Now())
	if err != nil {
		return err
	}
	c.who = who
	if rt.path == "/" {
		return nil // to learn that nothing is here, any token will do
	}
	switch rt.on {
	case onVisible:
		if !who.Any(rt.action) {
			return access.ErrDenied
		}
		return nil
	case onCluster:
		return who.Allows(rt.action, access.Cluster)
	case onApp:
		return who.Allows(rt.action, appOf(c.r))
	}
	return access.ErrDenied
}

// fail answers with an error, and logs those that need somebody to look.
func (s *Server) fail(c *call, err error) {
	o := outcomeOf(err)
	if o.code == wire.CodeInternal {
		s.log.Error().Err(err).Str("invocation", c.id).Str("path", c.r.URL.Path).Msg("request failed inside")
	}
	if errors.Is(err, access.ErrNoToken) && sigv4.Signed(c.r) {
		unknownOperation().writeLambda(c.w, c.id, "UnknownOperationException", "")
		return
	}
	o.write(c.w, c.id)
}

// appOf is the app that a path names.
func appOf(r *http.Request) state.AppName {
	if app := r.PathValue("app"); app != "" {
		return state.AppName(app)
	}
	return state.DefaultApp
}

// unknown answers for every path without a route: 405 where another method has
// one, 404 elsewhere.
func (s *Server) unknown(c *call) error {
	allow := ""
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		probe := &http.Request{Method: method, URL: c.r.URL, Host: c.r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "" && pattern != "/" {
			if allow != "" {
				allow += ", "
			}
			allow += method
		}
	}
	if allow == "" {
		return notFound("there is nothing at this path")
	}
	c.w.Header().Set("Allow", allow)
	return refusal(http.StatusMethodNotAllowed, wire.CodeMethod, "this path takes "+allow)
}
