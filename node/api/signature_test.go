package api

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

const lambda = "/2015-03-31/functions/echo/invocations"

// signature is how a test signs a request; the zero value signs nothing.
type signature struct {
	id, secret string
	at         time.Time
	// hash is sent as the body's hash, if set; "body" stands for the right one.
	hash string
}

// sign signs a request as AWS's clients do: the host and every X-Amz header.
func (s signature) sign(r *http.Request, body string) {
	stamp := s.at.UTC().Format("20060102T150405Z")
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	r.Header.Set("X-Amz-Date", stamp)
	payload := sum(body)
	if s.hash != "" && s.hash != "body" {
		payload = s.hash
	}
	if s.hash != "" {
		r.Header.Set("X-Amz-Content-Sha256", payload)
	}
	names := []string{"host"}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	request := r.Method + "\n" + strings.ReplaceAll(strings.ReplaceAll(r.URL.EscapedPath(), "%", "%25"), ":", "%3A") + "\n" + r.URL.RawQuery + "\n"
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		request += name + ":" + value + "\n"
	}
	request += "\n" + strings.Join(names, ";") + "\n" + payload
	scope := stamp[:8] + "/eu-central-1/lambda/aws4_request"
	key := []byte("AWS4" + s.secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.id+"/"+scope+", SignedHeaders="+strings.Join(names, ";")+
		", Signature="+hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+sum(request))))
}

// signed sends a signed request to a server in process.
func signed(s http.Handler, sig signature, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, bytes.NewReader([]byte(body)))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	sig.sign(r, body)
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
	sig := signature{id: "CVKATEST", secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), at: time.Now()}
	var caller string
	n.invoke = func(ctx context.Context, req *invoke.Request) (*invoke.Response, error) {
		caller = req.Caller
		return echo(ctx, req)
	}
	s := newServer(t, n)
	for _, size := range []int{0, 1, 100, smallBody + 1, 1 << 20} {
		body := strings.Repeat("x", size)
		for _, hash := range []string{"", "body"} {
			sig.hash = hash
			w := signed(s, sig, lambda, body)
			if w.Code != http.StatusOK || w.Body.String() != body || caller != "CVKATEST" {
				t.Errorf("%d bytes, hash %q: status %d, %d bytes, caller %q: %.200s", size, hash, w.Code, w.Body.Len(), caller, w.Body)
			}
		}
	}
	sig.hash = ""
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
	// And a signature opens no other.
	if w := signed(s, sig, native, "x"); w.Code != http.StatusUnauthorized {
		t.Errorf("native route: %d", w.Code)
	}
}

func TestSignaturesAreRefusedInAWSsWords(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	now := time.Now()
	right := signature{id: "CVKATEST", secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), at: now}
	past := now.Add(-time.Second).UnixMilli()
	ended := signature{id: "CVKAENDED", at: now, secret: n.accessKey("CVKAENDED", "", func(k *clusterpb.Token) { k.ExpiresUnixMs = past }, clusterpb.Scope_SCOPE_INVOKE)}
	reader := signature{id: "CVKAREAD", secret: n.accessKey("CVKAREAD", "", nil, clusterpb.Scope_SCOPE_READ), at: now}
	billing := signature{id: "CVKABILL", secret: n.accessKey("CVKABILL", "billing", nil, clusterpb.Scope_SCOPE_INVOKE), at: now}
	n.invoke = func(context.Context, *invoke.Request) (*invoke.Response, error) {
		t.Error("a refused call was placed")
		return nil, errors.New("placed")
	}
	s := newServer(t, n)
	with := func(change func(*signature)) signature {
		sig := right
		change(&sig)
		return sig
	}
	const invalid, unknown = "InvalidSignatureException", "UnrecognizedClientException"
	for _, tc := range []struct {
		name        string
		sig         signature
		kind, words string
	}{
		{"wrong secret", with(func(s *signature) { s.secret = "x" }), invalid, "does not match the signature you provided"},
		{"unknown key", with(func(s *signature) { s.id = "CVKANONE" }), unknown, "The security token included in the request is invalid."},
		{"a bearer token's id", with(func(s *signature) { s.id = "invoker" }), unknown, "is invalid."},
		{"expired key", ended, "ExpiredTokenException", "is expired"},
		{"old", with(func(s *signature) { s.at = now.Add(-6 * time.Minute) }), invalid, "Signature expired: "},
		{"early", with(func(s *signature) { s.at = now.Add(6 * time.Minute) }), invalid, "Signature not yet current: "},
		{"unsigned payload", with(func(s *signature) { s.hash = "UNSIGNED-PAYLOAD" }), invalid, "neither unsigned nor"},
		{"hash of another body", with(func(s *signature) { s.hash = strings.Repeat("0", 64) }), invalid, "is not the SHA-256 of the payload"},
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
		sig := signature{id: "CVKATEST", secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), at: now}
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

func TestAccessKeysAreMade(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	made := into[wire.NewToken](t, do(s, "POST", "/v1/tokens", n.admin, `{"kind":"aws-key","app":"billing","description":"ci"}`), http.StatusCreated)
	if made.Kind != wire.KindAWSKey || len(made.ID) != 20 || len(made.Secret) != 40 || !slices.Equal(made.Scopes, []string{"invoke"}) || made.Expires.IsZero() {
		t.Errorf("made %+v", made)
	}
	sig := signature{id: made.ID, secret: made.Secret, at: time.Now()}
	if w := signed(s, sig, "/2015-03-31/functions/billing%2Fcharge/invocations", "x"); w.Code != http.StatusOK {
		t.Errorf("calling with it: %d %s", w.Code, w.Body)
	}
	list := do(s, "GET", "/v1/tokens", n.admin, "")
	if !strings.Contains(list.Body.String(), `"id":"`+made.ID+`","kind":"aws-key","description":"ci","scopes":["invoke"],"app":"billing"`) || strings.Contains(list.Body.String(), made.Secret) {
		t.Errorf("list is %s", list.Body)
	}
	refused(t, do(s, "POST", "/v1/tokens", n.admin, `{"kind":"join"}`), http.StatusBadRequest, wire.CodeBadRequest)
	refused(t, do(s, "POST", "/v1/tokens", n.deployer, `{"kind":"aws-key"}`), http.StatusForbidden, wire.CodeDenied)
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
					signature{id: "CVKATEST", secret: n.accessKey("CVKATEST", "", nil, clusterpb.Scope_SCOPE_INVOKE), at: time.Now()}.sign(r, body)
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
