package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/client/wire"
)

// example fills the wildcards of a route so that it addresses app.
func example(path, app string) string {
	return strings.NewReplacer("{app}", app, "{name}", "echo", "{version}", "1", "{alias}", "live", "{node}", "x",
		"{token}", "x", "{request}", "x", "{path...}", "p/q").Replace(path)
}

func method(rt route) string {
	if rt.method == "" {
		return http.MethodPost
	}
	return rt.method
}

func TestEveryRouteNeedsAToken(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	for _, rt := range routes() {
		if rt.open != nil {
			continue
		}
		for name, token := range map[string]string{"none": "", "unknown": access.NewSecret(), "not one": "x"} {
			w := do(s, method(rt), example(rt.path, "default"), token, "{}")
			if strings.HasPrefix(rt.path, "/2015-03-31/") { // whose clients know 403 only
				if w.Code != http.StatusForbidden || w.Header().Get("X-Covey-Error") != string(wire.CodeUnauthenticated) {
					t.Errorf("%s with token %q: status %d, %s", rt.pattern(), name, w.Code, w.Header())
				}
				continue
			}
			if w.Code != http.StatusUnauthorized {
				t.Errorf("%s with token %q: status %d, want 401", rt.pattern(), name, w.Code)
			}
			if w.Header().Get("Www-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", rt.pattern())
			}
		}
	}
}

func TestEveryRouteNeedsItsScope(t *testing.T) {
	t.Parallel()
	for _, rt := range routes() {
		if rt.open != nil || rt.path == "/" {
			continue
		}
		t.Run(strings.ReplaceAll(rt.pattern(), "/", "_"), func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			s := newServer(t, n)
			for _, tc := range []struct {
				scope clusterpb.Scope
				may   []access.Action
			}{
				{clusterpb.Scope_SCOPE_READ, []access.Action{access.Read}},
				{clusterpb.Scope_SCOPE_INVOKE, []access.Action{access.Invoke}},
				{clusterpb.Scope_SCOPE_DEPLOY, []access.Action{access.Read, access.Invoke, access.Deploy}},
				{clusterpb.Scope_SCOPE_ADMIN, []access.Action{access.Read, access.Invoke, access.Deploy, access.Admin}},
			} {
				token := n.token("probe-"+scopeName(tc.scope), "", tc.scope)
				allowed := false
				for _, a := range tc.may {
					allowed = allowed || a == rt.action
				}
				w := do(s, method(rt), example(rt.path, "default"), token, "{}")
				if denied := w.Code == http.StatusForbidden; denied == allowed {
					t.Errorf("scope %v: status %d, allowed should be %v", tc.scope, w.Code, allowed)
				}
			}
		})
	}
}

func TestConfinedTokenReachesItsAppOnly(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	for _, rt := range routes() {
		if rt.open != nil || rt.on == onVisible {
			continue
		}
		w := do(s, method(rt), example(rt.path, "default"), n.billing, "{}")
		if w.Code != http.StatusForbidden {
			t.Errorf("%s of another app or of the cluster: status %d, want 403", rt.pattern(), w.Code)
		}
	}
	if w := do(s, "POST", "/v1/apps/billing/functions/charge/invocations", n.billing, "x"); w.Code != http.StatusOK {
		t.Errorf("own function: status %d", w.Code)
	}
	if w := do(s, "POST", "/function/charge.billing", n.billing, "x"); w.Code != http.StatusOK {
		t.Errorf("own function, OpenFaaS style: status %d", w.Code)
	}
}

func TestConfinedTokenSeesItsAppOnly(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	var functions wire.List[wire.Function]
	w := do(s, "GET", "/v1/functions", n.billing, "")
	if err := json.Unmarshal(w.Body.Bytes(), &functions); err != nil {
		t.Fatal(err)
	}
	if len(functions.Items) != 1 || functions.Items[0].App != "billing" {
		t.Errorf("sees %+v", functions.Items)
	}
	if w := do(s, "GET", "/v1/usage?app=default", n.billing, ""); w.Code != http.StatusForbidden {
		t.Errorf("usage of another app: status %d", w.Code)
	}
	if w := do(s, "GET", "/v1/usage", n.billing, ""); w.Code != http.StatusOK || n.usageAsks[0].App != "billing" {
		t.Errorf("usage without an app: status %d, asked for %+v", w.Code, n.usageAsks)
	}
}

func TestHealthNeedsNoTokenAndTellsStrangersNoDetails(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.checks = []Check{{Name: "raft", OK: false, Detail: "no leader at 10.0.0.7"}}
	s := newServer(t, n)
	if w := do(s, "GET", "/livez", "", ""); w.Code != http.StatusOK {
		t.Errorf("livez: %d", w.Code)
	}
	w := do(s, "GET", "/readyz?verbose", "", "")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "[-]raft\n") {
		t.Errorf("readyz: %d %q", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "10.0.0.7") {
		t.Error("readyz tells a stranger an address")
	}
	if w := do(s, "GET", "/readyz?verbose", n.reader, ""); !strings.Contains(w.Body.String(), "10.0.0.7") {
		t.Errorf("readyz hides details from a reader: %q", w.Body)
	}
	n.checks[0].OK = true
	if w := do(s, "GET", "/readyz", "", ""); w.Code != http.StatusOK {
		t.Errorf("ready node: %d", w.Code)
	}
	s.Drain()
	if w := do(s, "GET", "/readyz", "", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("draining node: %d", w.Code)
	}
}
