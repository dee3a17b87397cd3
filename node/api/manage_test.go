package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// into decodes a good answer.
func into[T any](t *testing.T, w *httptest.ResponseRecorder, status int) T {
	t.Helper()
	var out T
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("decode %s: %v", w.Body, err)
	}
	return out
}

// refused checks that an answer is an error with the code.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int, code wire.Code) {
	t.Helper()
	if w.Code != status || w.Header().Get(wire.HeaderError) != string(code) {
		t.Errorf("status %d, code %q, want %d %q: %s", w.Code, w.Header().Get(wire.HeaderError), status, code, w.Body)
	}
}

const echoPath = "/v1/apps/default/functions/echo"

func artifact() string {
	return `"artifacts":[{"os":"linux","arch":"amd64","digest":"` + testDigest + `","size":3}]`
}

func TestDeployMakesVersionsAndHidesTheEnvironment(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	w := do(s, "PUT", echoPath, n.deployer, `{"memory_bytes":134217728,"queue":0,"env":{"KEY":"hunter3"},`+artifact()+`}`)
	v := into[wire.Version](t, w, http.StatusCreated)
	if v.Number != 2 || v.Spec.MemoryBytes != 128<<20 || v.Spec.TimeoutMS != 30000 || v.Spec.Queue == nil || *v.Spec.Queue != 0 {
		t.Errorf("deployed %+v", v)
	}
	for _, path := range []string{"", "/versions", "/versions/1", "/versions/2"} {
		body := do(s, "GET", echoPath+path, n.admin, "").Body.String()
		if strings.Contains(body, "hunter") || !strings.Contains(body, wire.Redacted) {
			t.Errorf("%q shows values of the environment, or not its names: %s", path, body)
		}
	}
	f := into[wire.Function](t, do(s, "GET", echoPath, n.reader, ""), http.StatusOK)
	if f.Live != 2 || f.Latest != 2 || f.Versions != 2 || f.Current == nil || f.Current.Number != 2 {
		t.Errorf("function %+v", f)
	}
}

func TestRepeatedDeployMakesOneVersion(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	for range 3 {
		w := do(s, "PUT", echoPath, n.deployer, `{`+artifact()+`}`, wire.HeaderRequestID, "same")
		if v := into[wire.Version](t, w, http.StatusCreated); v.Number != 2 {
			t.Errorf("version %d", v.Number)
		}
	}
	w := do(s, "PUT", echoPath, n.deployer, `{"description":"other",`+artifact()+`}`, wire.HeaderRequestID, "same")
	if v := into[wire.Version](t, w, http.StatusCreated); v.Number != 3 {
		t.Errorf("another deploy under the same id made version %d", v.Number)
	}
}

func TestAliasesMoveUnderARevision(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.function("default", "echo", false) // version 2
	s := newServer(t, n)
	a := into[wire.Alias](t, do(s, "PUT", echoPath+"/aliases/canary", n.deployer, `{"version":1,"other":2,"other_weight":0.25}`), http.StatusOK)
	if a.Version != 1 || a.Other != 2 || a.OtherWeight != 0.25 {
		t.Errorf("alias %+v", a)
	}
	w := do(s, "GET", echoPath+"/aliases/canary", n.reader, "")
	tag := w.Header().Get("ETag")
	if got := into[wire.Alias](t, w, http.StatusOK); got.Revision != a.Revision || tag == "" {
		t.Errorf("alias %+v, tag %q", got, tag)
	}
	into[wire.Alias](t, do(s, "PUT", echoPath+"/aliases/canary", n.deployer, `{"version":2}`, "If-Match", tag), http.StatusOK)
	refused(t, do(s, "PUT", echoPath+"/aliases/canary", n.deployer, `{"version":1}`, "If-Match", tag), http.StatusPreconditionFailed, wire.CodePrecondition)
	refused(t, do(s, "PUT", echoPath+"/aliases/canary", n.deployer, `{"version":1}`, "If-Match", `"x"`), http.StatusBadRequest, wire.CodeBadRequest)
	refused(t, do(s, "GET", echoPath+"/aliases/nope", n.reader, ""), http.StatusNotFound, wire.CodeNotFound)
	if w := do(s, "DELETE", echoPath+"/aliases/canary", n.deployer, ""); w.Code != http.StatusNoContent {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	if w := do(s, "DELETE", echoPath+"/aliases/live", n.deployer, ""); w.Code < 400 {
		t.Errorf("live was deleted: %d", w.Code)
	}
}

func TestRollback(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.function("default", "echo", false)
	n.function("default", "echo", false) // version 3
	s := newServer(t, n)
	rollback := func(body string) *httptest.ResponseRecorder {
		return do(s, "POST", echoPath+"/rollback", n.deployer, body)
	}
	for _, want := range []uint64{2, 1} {
		if a := into[wire.Alias](t, rollback(""), http.StatusOK); a.Version != want {
			t.Errorf("rolled back to %d, want %d", a.Version, want)
		}
	}
	refused(t, rollback(""), http.StatusConflict, wire.CodeConflict)
	if a := into[wire.Alias](t, rollback(`{"version":3}`), http.StatusOK); a.Version != 3 {
		t.Errorf("went to %d", a.Version)
	}
	refused(t, rollback(`{"version":9}`), http.StatusNotFound, wire.CodeNotFound)
	refused(t, rollback(`{"alias":"nope"}`), http.StatusNotFound, wire.CodeNotFound)
}

func TestDeleting(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.function("default", "echo", false)
	s := newServer(t, n)
	refused(t, do(s, "DELETE", echoPath+"/versions/2", n.deployer, ""), http.StatusConflict, wire.CodeConflict) // live
	if w := do(s, "DELETE", echoPath+"/versions/1", n.deployer, ""); w.Code != http.StatusNoContent {
		t.Errorf("version: %d %s", w.Code, w.Body)
	}
	refused(t, do(s, "DELETE", echoPath+"/versions/x", n.deployer, ""), http.StatusBadRequest, wire.CodeBadRequest)
	if w := do(s, "DELETE", echoPath, n.deployer, ""); w.Code != http.StatusNoContent {
		t.Errorf("function: %d %s", w.Code, w.Body)
	}
	refused(t, do(s, "DELETE", echoPath, n.deployer, ""), http.StatusNotFound, wire.CodeNotFound)
	refused(t, do(s, "GET", echoPath, n.reader, ""), http.StatusNotFound, wire.CodeNotFound)
}

func TestBodiesAreReadStrictly(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	for name, body := range map[string]string{
		"unknown field":                `{"memroy_bytes":1,` + artifact() + `}`,
		"key twice":                    `{"min":1,"min":2,` + artifact() + `}`,
		"key twice in an inner object": `{"env":{"A":"1","A":"2"},` + artifact() + `}`,
		"two values":                   `{` + artifact() + `} {}`,
		"not JSON":                     `{`,
		"wrong type":                   `{"min":"many",` + artifact() + `}`,
		"negative":                     `{"min":-1,` + artifact() + `}`,
		"too deep":                     strings.Repeat("[", 100),
		"refused by the state":         `{"timeout_ms":99999999,` + artifact() + `}`,
	} {
		w := do(s, "PUT", echoPath, n.deployer, body)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d: %s", name, w.Code, w.Body)
		}
	}
	refused(t, do(s, "PUT", echoPath, n.deployer, `{"description":"`+strings.Repeat("x", maxDocument)+`"}`), 413, wire.CodeTooLarge)
	refused(t, do(s, "PUT", echoPath, n.deployer, `{"artifacts":[{"os":"plan9","digest":"`+testDigest+`","size":1}]}`), 422, wire.CodeNoNode)
}

func TestControlFailuresAreToldApart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		status int
		code   wire.Code
	}{
		{fmt.Errorf("x: %w", ErrNoQuorum), 503, wire.CodeNoQuorum},
		{ErrOverloaded, 429, wire.CodeOverloaded},
		{cluster.ErrDiskFull, 507, wire.CodeUnavailable},
		{cluster.ErrWouldLoseQuorum, 409, wire.CodeConflict},
		{errors.New("secret"), 500, wire.CodeInternal},
	} {
		n := newFakeNode(t)
		s := newServer(t, n)
		n.propose = tc.err
		w := do(s, "PUT", echoPath, n.deployer, `{`+artifact()+`}`)
		refused(t, w, tc.status, tc.code)
		refused(t, do(s, "GET", echoPath+"?consistent=true", n.reader, ""), tc.status, tc.code)
		if w := do(s, "GET", echoPath, n.reader, ""); w.Code != http.StatusOK {
			t.Errorf("a local read needs a quorum: %d", w.Code)
		}
		if strings.Contains(w.Body.String(), "secret") {
			t.Error("the cause of an internal error leaks")
		}
	}
}

func TestTokensAreMadeShownOnceAndRevoked(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	made := into[wire.NewToken](t, do(s, "POST", "/v1/tokens", n.admin, `{"scopes":["invoke"],"app":"billing","description":"ci","ttl_seconds":60}`), http.StatusCreated)
	if left := time.Until(made.Expires); left > time.Minute || left < 50*time.Second {
		t.Errorf("expires in %v", left)
	}
	charge := "/v1/apps/billing/functions/charge/invocations"
	if w := do(s, "POST", charge, made.Secret, ""); w.Code != http.StatusOK {
		t.Errorf("the new token does not work: %d", w.Code)
	}
	list := do(s, "GET", "/v1/tokens", n.admin, "")
	if strings.Contains(list.Body.String(), made.Secret) || !strings.Contains(list.Body.String(), made.ID) {
		t.Errorf("list %s", list.Body)
	}
	if w := do(s, "DELETE", "/v1/tokens/"+made.ID, n.admin, ""); w.Code != http.StatusNoContent {
		t.Errorf("revoke: %d %s", w.Code, w.Body)
	}
	if w := do(s, "POST", charge, made.Secret, ""); w.Code != http.StatusUnauthorized {
		t.Errorf("a revoked token works: %d", w.Code)
	}
	for _, body := range []string{``, `{"scopes":[]}`, `{"scopes":["root"]}`} {
		refused(t, do(s, "POST", "/v1/tokens", n.admin, body), http.StatusBadRequest, wire.CodeBadRequest)
	}
	forever := into[wire.NewToken](t, do(s, "POST", "/v1/tokens", n.admin, `{"scopes":["read"],"ttl_seconds":-1}`), http.StatusCreated)
	if !forever.Expires.IsZero() {
		t.Errorf("expires %v", forever.Expires)
	}
	usual := into[wire.NewToken](t, do(s, "POST", "/v1/tokens", n.admin, `{"scopes":["read"]}`), http.StatusCreated)
	if time.Until(usual.Expires) < 89*24*time.Hour {
		t.Errorf("expires %v", usual.Expires)
	}
	join := into[wire.JoinToken](t, do(s, "POST", "/v1/join-tokens", n.admin, `{"uses":2}`), http.StatusCreated)
	if join.Token != "K10-1h0m0s-2" {
		t.Errorf("join token %q", join.Token)
	}
}

func TestNodesAreFoundByIDOrName(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	if w := do(s, "POST", "/v1/nodes/one/drain", n.admin, `{"on":true}`); w.Code != http.StatusNoContent || !n.drained[testNode] {
		t.Errorf("drain: %d %s", w.Code, w.Body)
	}
	if w := do(s, "DELETE", "/v1/nodes/"+testNode, n.admin, ""); w.Code != http.StatusNoContent || len(n.removed) != 1 {
		t.Errorf("remove: %d %s", w.Code, w.Body)
	}
	refused(t, do(s, "DELETE", "/v1/nodes/two", n.admin, ""), http.StatusNotFound, wire.CodeNotFound)
}

func TestExplainHidesOtherApps(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	record := invoke.Record{RequestID: "r1", App: "default", Function: "echo", Entry: testNode, Attempts: []invoke.AttemptRecord{{Node: testNode, Reason: "warm", Steps: []invoke.Step{{Name: "run", Took: 1}}}}}
	n.explain = func(id string) (*invoke.Record, error) {
		if id != "r1" {
			return nil, invoke.ErrNotFound
		}
		return &record, nil
	}
	s := newServer(t, n)
	w := do(s, "GET", "/v1/explain/r1", n.reader, "")
	got := into[wire.Record](t, w, http.StatusOK)
	want, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	// The client's type must lose nothing of the node's.
	back, err := json.Marshal(got)
	if diff := cmp.Diff(string(want), string(back)); err != nil || diff != "" {
		t.Errorf("record differs, %v:\n%s", err, diff)
	}
	refused(t, do(s, "GET", "/v1/explain/r2", n.reader, ""), http.StatusNotFound, wire.CodeNotFound)
	refused(t, do(s, "GET", "/v1/explain/r1", n.billing, ""), http.StatusNotFound, wire.CodeNotFound)
}

func TestUploadAndBackup(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n, func(c *Config) { c.MaxCode = 100 })
	up := into[wire.Upload](t, do(s, "POST", "/v1/code", n.deployer, "binary"), http.StatusCreated)
	if up.Size != 6 || string(n.uploaded) != "binary" {
		t.Errorf("uploaded %+v, %q", up, n.uploaded)
	}
	refused(t, do(s, "POST", "/v1/code", n.deployer, strings.Repeat("x", 101)), 413, wire.CodeTooLarge)
	refused(t, do(s, "POST", "/v1/code", n.deployer, ""), 400, wire.CodeBadRequest)
	if w := do(s, "GET", "/v1/backup", n.admin, ""); w.Code != 200 || w.Body.String() != "backup" {
		t.Errorf("backup: %d %q", w.Code, w.Body)
	}
	n.backup = func(io.Writer) error { return ErrNoQuorum }
	refused(t, do(s, "GET", "/v1/backup", n.admin, ""), 503, wire.CodeNoQuorum)
}

func TestLimitsAndLists(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	if w := do(s, "PUT", "/v1/apps/billing/limits", n.admin, `{"concurrency":5}`); w.Code != http.StatusNoContent {
		t.Fatalf("limits: %d %s", w.Code, w.Body)
	}
	apps := into[wire.List[wire.App]](t, do(s, "GET", "/v1/apps", n.reader, ""), http.StatusOK)
	if len(apps.Items) != 2 || apps.Items[0].Name != "billing" || apps.Items[0].Limits.Concurrency != 5 {
		t.Errorf("apps %+v", apps.Items)
	}
	functions := into[wire.List[wire.Function]](t, do(s, "GET", "/v1/apps/default/functions", n.reader, ""), http.StatusOK)
	if len(functions.Items) != 2 {
		t.Errorf("functions %+v", functions.Items)
	}
	if w := do(s, "GET", "/v1/apps/none/functions", n.reader, ""); w.Body.String() != `{"items":[]}` {
		t.Errorf("an empty list is %s", w.Body)
	}
	into[wire.Status](t, do(s, "GET", "/v1/status", n.reader, ""), http.StatusOK)
	into[wire.List[wire.NodeStatus]](t, do(s, "GET", "/v1/nodes", n.reader, ""), http.StatusOK)
	into[wire.UsageReport](t, do(s, "GET", "/v1/usage?since=1h&until=2026-01-02T03:04:05Z", n.reader, ""), http.StatusOK)
	refused(t, do(s, "GET", "/v1/usage?since=yesterday", n.reader, ""), 400, wire.CodeBadRequest)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	refused(t, do(s, "GET", "/v2/functions", n.reader, ""), 404, wire.CodeNotFound)
	w := do(s, "PATCH", echoPath, n.reader, "")
	refused(t, w, 405, wire.CodeMethod)
	if w.Header().Get("Allow") != "GET, PUT, DELETE" {
		t.Errorf("Allow is %q", w.Header().Get("Allow"))
	}
}

func TestMetricsKeepTheirNamesAndBoundTheirLabels(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.invoke = func(ctx context.Context, req *invoke.Request) (*invoke.Response, error) {
		if n.View().Function(state.AppName(req.App), state.FunctionName(req.Function)) == nil {
			return nil, invoke.ErrNotFound
		}
		return echo(ctx, req)
	}
	s := newServer(t, n)
	do(s, "POST", native, n.invoker, "")
	for i := range 5 {
		do(s, "POST", fmt.Sprintf("/v1/functions/guess%d/invocations", i), n.invoker, "")
	}
	text := do(s, "GET", "/metrics", n.reader, "").Body.String()
	for _, want := range []string{
		`gateway_function_invocation_total{code="200",function_name="echo.default"} 1`,
		`gateway_function_invocation_total{code="404",function_name="unknown"} 5`,
		`gateway_functions_seconds_count{function_name="echo.default"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "guess") {
		t.Error("a caller's guess became a label")
	}
}
