package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4/sigv4test"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

const lambda = "/2015-03-31/functions/echo/invocations"

// signed sends a signed request to a server in process.
func signed(s http.Handler, sig sigv4test.Signer, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, bytes.NewReader([]byte(body)))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	sig.Sign(r, []byte(body))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// refusedLambda wants an error of Lambda's.
func refusedLambda(t *testing.T, w *httptest.ResponseRecorder, status int, kind, words string) {
	t.Helper()
	var doc struct {
		Type    string
		Message string `json:"message"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Errorf("body %q: %v", w.Body, err)
	}
	if w.Code != status || w.Header().Get("X-Amzn-Errortype") != kind || !strings.Contains(doc.Message, words) {
		t.Errorf("got %d %s %q, want %d %s with %q", w.Code, w.Header().Get("X-Amzn-Errortype"), doc.Message, status, kind, words)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Amzn-Requestid") == "" {
		t.Errorf("headers are %v", w.Header())
	}
}

func TestSignedRequestsInvoke(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	sig := sigv4test.Signer{ID: "CVKATEST", Secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), At: time.Now()}
	var caller string
	n.invoke = func(ctx context.Context, req *invoke.Request) (*invoke.Response, error) {
		caller = req.Caller
		return echo(ctx, req)
	}
	s := newServer(t, n)
	for _, size := range []int{0, 1, 100, smallBody + 1, 1 << 20} {
		body := strings.Repeat("x", size)
		for _, hash := range []string{"", "body"} {
			sig.Hash = hash
			w := signed(s, sig, lambda, body)
			if w.Code != http.StatusOK || w.Body.String() != body || caller != "CVKATEST" {
				t.Errorf("%d bytes, hash %q: status %d, %d bytes, caller %q: %.200s", size, hash, w.Code, w.Body.Len(), caller, w.Body)
			}
		}
	}
	sig.Hash = ""
	for _, path := range []string{
		"/2015-03-31/functions/echo:live/invocations",
		"/2015-03-31/functions/default%2Fecho/invocations",
		"/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Aecho/invocations",
		lambda + "?Qualifier=live",
	} {
		if w := signed(s, sig, path, "x"); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := signed(s, sig, lambda, "x", "X-Amz-Invocation-Type", "DryRun"); w.Code != http.StatusNoContent {
		t.Errorf("dry run: %d %s", w.Code, w.Body)
	}
	// A bearer token opens the route as before.
	if w := do(s, "POST", lambda, n.invoker, "x"); w.Code != http.StatusOK {
		t.Errorf("bearer token: %d", w.Code)
	}
	// And a signature opens no other: its client is told so in a form that it knows.
	for _, path := range []string{"/2015-03-31/functions", "/v1/tokens"} {
		refusedLambda(t, signed(s, sig, path, "{}"), http.StatusNotFound, "UnknownOperationException", "Invoke only")
	}
	if w := signed(s, sig, native, "x"); w.Code != http.StatusUnauthorized {
		t.Errorf("native route: %d", w.Code)
	}
}

func TestSignaturesAreRefusedInAWSsWords(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	now := time.Now()
	right := sigv4test.Signer{ID: "CVKATEST", Secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), At: now}
	past := now.Add(-time.Second).UnixMilli()
	ended := sigv4test.Signer{ID: "CVKAENDED", At: now, Secret: n.accessKey("CVKAENDED", "", func(k *clusterpb.Token) { k.ExpiresUnixMs = past }, clusterpb.Scope_SCOPE_INVOKE)}
	reader := sigv4test.Signer{ID: "CVKAREAD", Secret: n.accessKey("CVKAREAD", "", nil, clusterpb.Scope_SCOPE_READ), At: now}
	billing := sigv4test.Signer{ID: "CVKABILL", Secret: n.accessKey("CVKABILL", "billing", nil, clusterpb.Scope_SCOPE_INVOKE), At: now}
	n.invoke = func(context.Context, *invoke.Request) (*invoke.Response, error) {
		t.Error("a refused call was placed")
		return nil, errors.New("placed")
	}
	s := newServer(t, n)
	with := func(change func(*sigv4test.Signer)) sigv4test.Signer {
		sig := right
		change(&sig)
		return sig
	}
	const invalid, unknown = "InvalidSignatureException", "UnrecognizedClientException"
	for _, tc := range []struct {
		name        string
		sig         sigv4test.Signer
		kind, words string
	}{
		{"wrong secret", with(func(s *sigv4test.Signer) { s.Secret = "x" }), invalid, "does not match the signature you provided"},
		{"unknown key", with(func(s *sigv4test.Signer) { s.ID = "CVKANONE" }), unknown, "The security token included in the request is invalid."},
		{"a bearer token's id", with(func(s *sigv4test.Signer) { s.ID = "invoker" }), unknown, "is invalid."},
		{"expired key", ended, "ExpiredTokenException", "is expired"},
		{"old", with(func(s *sigv4test.Signer) { s.At = now.Add(-6 * time.Minute) }), invalid, "Signature expired: "},
		{"early", with(func(s *sigv4test.Signer) { s.At = now.Add(6 * time.Minute) }), invalid, "Signature not yet current: "},
		{"unsigned payload", with(func(s *sigv4test.Signer) { s.Hash = "UNSIGNED-PAYLOAD" }), invalid, "neither unsigned nor"},
		{"hash of another body", with(func(s *sigv4test.Signer) { s.Hash = strings.Repeat("0", 64) }), invalid, "is not the SHA-256 of the payload"},
		{"scope", reader, "AccessDeniedException", "not authorized to perform: lambda:InvokeFunction on resource: default/echo"},
		{"app", billing, "AccessDeniedException", "default/echo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refusedLambda(t, signed(s, tc.sig, lambda, "body"), http.StatusForbidden, tc.kind, tc.words)
		})
	}
	t.Run("nothing", func(t *testing.T) {
		refusedLambda(t, do(s, "POST", lambda, "", "x"), http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
	})
	t.Run("wrong bearer token", func(t *testing.T) {
		refusedLambda(t, do(s, "POST", lambda, access.NewSecret(), "x"), http.StatusForbidden, unknown, "is invalid.")
	})
	t.Run("half a header", func(t *testing.T) {
		refusedLambda(t, do(s, "POST", lambda, "", "x", "Authorization", "AWS4-HMAC-SHA256 Credential=a"), http.StatusForbidden,
			"IncompleteSignatureException", "Authorization header requires 'Signature' parameter.")
	})
	t.Run("session token", func(t *testing.T) {
		refusedLambda(t, signed(s, right, lambda, "x", "X-Amz-Security-Token", "t"), http.StatusForbidden, unknown, "AWS_SESSION_TOKEN")
	})
	t.Run("too large", func(t *testing.T) {
		refusedLambda(t, signed(s, right, lambda, strings.Repeat("x", 6<<20+1)), http.StatusRequestEntityTooLarge, "RequestTooLargeException", "")
	})
	t.Run("no voter", func(t *testing.T) {
		n := newFakeNode(t)
		sig := sigv4test.Signer{ID: "CVKATEST", Secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), At: now}
		n.dayErr = fmt.Errorf("ask: %w", access.ErrNoKeeper)
		refusedLambda(t, signed(newServer(t, n), sig, lambda, "x"), http.StatusServiceUnavailable, "ServiceException", "no voter answered")
		n.dayErr = fmt.Errorf("ask: %w", access.ErrLostKey)
		refusedLambda(t, signed(newServer(t, n), sig, lambda, "x"), http.StatusForbidden, unknown, "create another one")
	})
	t.Run("revoked", func(t *testing.T) {
		if w := do(s, "DELETE", "/v1/tokens/CVKATEST", n.admin, ""); w.Code != http.StatusNoContent {
			t.Fatal(w.Code, w.Body)
		}
		refusedLambda(t, signed(s, right, lambda, "x"), http.StatusForbidden, unknown, "is invalid.")
	})
	t.Run("draining", func(t *testing.T) {
		s.Drain()
		refusedLambda(t, signed(s, billing, lambda, "x"), http.StatusServiceUnavailable, "ServiceException", "")
	})
}

// TestRefusedClientsHearWhy sends more than any buffer holds before it reads, as
// AWS's clients do.
func TestRefusedClientsHearWhy(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	_, address, _ := listen(t, n)
	for _, size := range []int{3 << 20, 7 << 20} {
		body := make([]byte, size)
		r, err := http.NewRequest("POST", "http://"+address+lambda, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sigv4test.Signer{ID: "CVKANONE", Secret: "x"}.Sign(r, body)
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := r.Write(conn); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), r)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Amzn-Errortype") != "UnrecognizedClientException" {
			t.Errorf("%d bytes: %d %v", size, resp.StatusCode, resp.Header)
		}
	}
}

func TestAccessKeysAreMade(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	made := into[wire.NewToken](t, do(s, "POST", "/v1/tokens", n.admin, `{"kind":"aws-key","app":"billing","description":"ci"}`), http.StatusCreated)
	if made.Kind != wire.KindAWSKey || len(made.ID) != 20 || len(made.Secret) != 40 || !slices.Equal(made.Scopes, []string{"invoke"}) || made.Expires.IsZero() {
		t.Errorf("made %+v", made)
	}
	sig := sigv4test.Signer{ID: made.ID, Secret: made.Secret, At: time.Now()}
	if w := signed(s, sig, "/2015-03-31/functions/billing%2Fcharge/invocations", "x"); w.Code != http.StatusOK {
		t.Errorf("calling with it: %d %s", w.Code, w.Body)
	}
	list := do(s, "GET", "/v1/tokens", n.admin, "")
	if !strings.Contains(list.Body.String(), `"id":"`+made.ID+`","kind":"aws-key","description":"ci","scopes":["invoke"],"app":"billing"`) || strings.Contains(list.Body.String(), made.Secret) {
		t.Errorf("list is %s", list.Body)
	}
	refused(t, do(s, "POST", "/v1/tokens", n.admin, `{"kind":"join"}`), http.StatusBadRequest, wire.CodeBadRequest)
	refused(t, do(s, "POST", "/v1/tokens", n.deployer, `{"kind":"aws-key"}`), http.StatusForbidden, wire.CodeDenied)
	old := newFakeNode(t)
	old.store, old.index = state.New(), 0
	old.must(&clusterpb.Command{Op: &clusterpb.Command_FoundCluster{FoundCluster: &clusterpb.FoundCluster{ClusterId: "c", FeatureLevel: 1}}})
	w := do(newServer(t, old), "POST", "/v1/tokens", old.token("admin", "", clusterpb.Scope_SCOPE_ADMIN), `{"kind":"aws-key"}`)
	refused(t, w, http.StatusServiceUnavailable, wire.CodeUnavailable)
	n.propose = ErrNoQuorum // as the seal's error
	refused(t, do(s, "POST", "/v1/tokens", n.admin, `{"kind":"aws-key"}`), http.StatusServiceUnavailable, wire.CodeNoQuorum)
}

// BenchmarkLambda is the handler alone, with a bearer token and signed.
func BenchmarkLambda(b *testing.B) {
	for _, size := range []int{100, 10 << 10} {
		for _, kind := range []string{"bearer", "signed"} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				n := newFakeNode(b)
				body := strings.Repeat("x", size)
				reader := strings.NewReader(body)
				r := httptest.NewRequest("POST", lambda, reader)
				r.Header.Set("Authorization", "Bearer "+n.invoker)
				if kind == "signed" {
					sigv4test.Signer{ID: "CVKATEST", Secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), At: time.Now()}.Sign(r, []byte(body))
				}
				s := newServer(b, n)
				w := &nowhere{header: http.Header{}}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					reader.Reset(body)
					s.ServeHTTP(w, r)
				}
			})
		}
	}
}
