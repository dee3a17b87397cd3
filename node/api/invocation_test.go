package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/plugins"
)

const native = "/v1/functions/echo/invocations"

func TestInvokeAnswersWithBodyAndFacts(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	var got invoke.Request
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		got = *req
		got.Body = []byte(string(req.Body))
		resp := answer(req, []byte("pong"))
		resp.LogTail = []byte("a line\n")
		return resp, nil
	}
	w := do(newServer(t, n), "POST", "/v1/apps/billing/functions/charge/invocations?qualifier=live", n.invoker, "ping",
		"Content-Type", "text/plain", wire.HeaderRequestID, "my-id.1", wire.HeaderLog, "tail",
		wire.HeaderTimeout, "1500", wire.HeaderAttributePrefix+"Width", "200",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if w.Code != http.StatusOK || w.Body.String() != "pong" {
		t.Fatalf("status %d, body %q", w.Code, w.Body)
	}
	if left := time.Until(got.Deadline); left < time.Second || left > 1500*time.Millisecond {
		t.Errorf("deadline in %v", left)
	}
	got.Deadline = time.Time{}
	want := invoke.Request{
		ID: "my-id.1", App: "billing", Function: "charge", Qualifier: "live", Body: []byte("ping"), ContentType: "text/plain",
		Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Caller: "invoker", WantLogs: true,
		Attributes: map[string]string{"width": "200"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request differs:\n%s", diff)
	}
	for name, want := range map[string]string{
		wire.HeaderRequestID: "my-id.1", wire.HeaderVersion: "billing/charge:1", wire.HeaderNode: testNode, wire.HeaderStart: "warm",
		"Content-Length": "4", "Content-Type": "text/plain", wire.HeaderLog: base64.StdEncoding.EncodeToString([]byte("a line\n")),
		wire.HeaderError: "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if timing := w.Header().Get("Server-Timing"); !strings.HasPrefix(timing, "queue;dur=0.001, run;dur=2.000, total;dur=") {
		t.Errorf("Server-Timing is %q", timing)
	}
}

func TestInvokeMapsErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		err    error
		status int
		code   wire.Code
		resend wire.Resend
		retry  string
		lambda string
	}{
		{"unknown function", fmt.Errorf("x: %w", invoke.ErrNotFound), 404, wire.CodeNotFound, wire.ResendNo, "", "ResourceNotFoundException"},
		{"busy", &invoke.BusyError{Function: "f", RetryAfter: 1200 * time.Millisecond}, 429, wire.CodeBusy, wire.ResendSafe, "2", "TooManyRequestsException"},
		{"start failed", &invoke.StartError{Reason: "exit 1"}, 503, wire.CodeStartFailed, wire.ResendNo, "", "ServiceException"},
		{"unknown outcome", &invoke.UnknownOutcomeError{Err: io.EOF}, 502, wire.CodeUnknownOutcome, wire.ResendIfIdempotent, "", "ServiceException"},
		{"timeout", invoke.ErrTimeout, 504, wire.CodeTimeout, wire.ResendNo, "", "ServiceException"},
		{"draining", invoke.ErrDraining, 503, wire.CodeDraining, wire.ResendSafe, "1", "ServiceException"},
		{"too deep", invoke.ErrTooDeep, 400, wire.CodeTooDeep, wire.ResendNo, "", "RecursiveInvocationException"},
		{"not started", fmt.Errorf("x: %w", plugins.ErrNotStarted), 503, wire.CodeUnavailable, wire.ResendSafe, "1", "ServiceException"},
		{"internal", errors.New("dial 10.0.0.7: secret"), 500, wire.CodeInternal, wire.ResendIfIdempotent, "", "ServiceException"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode(t)
			n.invoke = func(context.Context, *invoke.Request) (*invoke.Response, error) { return nil, tc.err }
			s := newServer(t, n)
			w := do(s, "POST", native, n.invoker, "x", wire.HeaderRequestID, "id1")
			var p wire.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if w.Code != tc.status || p.Status != tc.status || p.Code != tc.code || p.Resend != tc.resend || p.RequestID != "id1" {
				t.Errorf("status %d, %+v", w.Code, p)
			}
			if w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get(wire.HeaderError) != string(tc.code) {
				t.Errorf("headers %v", w.Header())
			}
			if got := w.Header().Get("Retry-After"); got != tc.retry {
				t.Errorf("Retry-After is %q, want %q", got, tc.retry)
			}
			if strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Error("the cause of an internal error leaks")
			}
			w = do(s, "POST", "/2015-03-31/functions/echo/invocations", n.invoker, "x")
			if w.Code != tc.status || w.Header().Get("X-Amzn-ErrorType") != tc.lambda {
				t.Errorf("lambda: status %d, %v", w.Code, w.Header())
			}
			if tc.code == wire.CodeBusy && !strings.Contains(w.Body.String(), "ConcurrentInvocationLimitExceeded") {
				t.Errorf("lambda: no reason in %s", w.Body)
			}
		})
	}
}

func TestFunctionErrorIsToldApart(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		resp := answer(req, nil)
		resp.FunctionError = &plugins.FunctionError{Type: "Oops", Message: "it broke", Stack: "a\nb\n", Unhandled: true}
		return resp, nil
	}
	s := newServer(t, n)
	w := do(s, "POST", native, n.invoker, "x")
	var p wire.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	want := &wire.FunctionError{Type: "Oops", Message: "it broke", Stack: []string{"a", "b"}}
	if diff := cmp.Diff(want, p.Error); diff != "" || w.Code != 500 || w.Header().Get(wire.HeaderFunctionError) != "Unhandled" {
		t.Errorf("status %d, header %q:\n%s", w.Code, w.Header().Get(wire.HeaderFunctionError), diff)
	}
	if w.Header().Get(wire.HeaderVersion) != "default/echo:1" {
		t.Errorf("no version in %v", w.Header())
	}
	w = do(s, "POST", "/2015-03-31/functions/echo/invocations", n.invoker, "x")
	if w.Code != 200 || w.Header().Get("X-Amz-Function-Error") != "Unhandled" ||
		w.Body.String() != `{"errorType":"Oops","errorMessage":"it broke","stackTrace":["a","b"]}` {
		t.Errorf("lambda: %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestResentCallRunsOnlyIfIdempotent(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	w := do(s, "POST", native, n.invoker, "x", wire.HeaderResend, wire.ResendUnknown)
	if w.Code != http.StatusConflict || w.Header().Get(wire.HeaderError) != string(wire.CodeNotIdempotent) {
		t.Errorf("not idempotent: %d %s", w.Code, w.Body)
	}
	w = do(s, "POST", "/v1/functions/idem/invocations", n.invoker, "x", wire.HeaderResend, wire.ResendUnknown)
	if w.Code != http.StatusOK {
		t.Errorf("idempotent: %d %s", w.Code, w.Body)
	}
}

func TestInvokeRefusesBadRequests(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n, func(c *Config) { c.MaxBody = 10 })
	for _, tc := range []struct {
		name   string
		path   string
		body   string
		header []string
		status int
	}{
		{"too large", native, "12345678901", nil, 413},
		{"as large as allowed", native, "1234567890", nil, 200},
		{"bad timeout", native, "", []string{wire.HeaderTimeout, "soon"}, 400},
		{"negative timeout", native, "", []string{wire.HeaderTimeout, "-1"}, 400},
		{"huge timeout", native, "", []string{wire.HeaderTimeout, "9223372036854775807"}, 200},
		{"dot segments", "/function/echo/../echo", "", nil, 400},
		{"empty segments", "/v1//functions/echo/invocations", "", nil, 400},
		{"encoded dot segments", "/function/echo/%2e%2e/x", "", nil, 400},
		{"control character", "/function/echo/%00", "", nil, 400},
		{"dots inside a segment", "/function/echo/a..b/.well-known", "", nil, 200},
	} {
		w := do(s, "POST", tc.path, n.invoker, tc.body, tc.header...)
		if w.Code != tc.status {
			t.Errorf("%s: status %d, want %d: %s", tc.name, w.Code, tc.status, w.Body)
		}
	}
}

func TestInvalidRequestIDIsReplaced(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	for _, id := range []string{"", "with space", strings.Repeat("x", 65), "a/b"} {
		w := do(s, "POST", native, n.invoker, "", wire.HeaderRequestID, id)
		if got := w.Header().Get(wire.HeaderRequestID); len(got) != 26 || got == id {
			t.Errorf("%q became %q", id, got)
		}
	}
}

func TestOpenFaaSCallSeesTheRequest(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	var got invoke.Request
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		got = *req
		resp := answer(req, []byte("made"))
		resp.Status = http.StatusCreated
		resp.Headers = plugins.Attributes{
			{Name: "location", Value: "/x"},
			{Name: "X-Covey-Node", Value: "forged"},
			{Name: "Connection", Value: "close"},
			{Name: "x-call-id", Value: "forged"},
			{Name: "Set-Cookie", Value: "a=1"},
			{Name: "Set-Cookie", Value: "b=2"},
		}
		return resp, nil
	}
	w := do(newServer(t, n), "PUT", "/function/charge.billing/a/b?x=1", n.invoker, "body", "X-Call-Id", "11111111-2222-3333-4444-555555555555", "X-Custom", "v")
	if w.Code != http.StatusCreated || w.Body.String() != "made" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	if got.App != "billing" || got.Function != "charge" || got.ID != "11111111-2222-3333-4444-555555555555" {
		t.Errorf("request %+v", got)
	}
	want := map[string]string{
		AttributeMethod: "PUT", AttributePath: "/a/b", AttributeQuery: "x=1", AttributeHost: "example.com",
		AttributeRemote: "192.0.2.1", AttributeHeaderPrefix + "x-custom": "v",
	}
	if diff := cmp.Diff(want, got.Attributes); diff != "" {
		t.Errorf("attributes differ:\n%s", diff)
	}
	h := w.Header()
	if h.Get("Location") != "/x" || h.Get(wire.HeaderNode) != testNode || h.Get("Connection") != "" ||
		h.Get("X-Call-Id") != got.ID || h.Get("X-Duration-Seconds") == "" || h.Get("X-Start-Time") == "" ||
		!slices.Equal(h["Set-Cookie"], []string{"a=1", "b=2"}) {
		t.Errorf("headers %v", h)
	}
}

func TestLambdaDialect(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.invoke = func(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
		resp := answer(req, []byte(req.Attributes[AttributeClientContext]+req.Qualifier))
		if req.WantLogs {
			resp.LogTail = []byte("tail")
		}
		return resp, nil
	}
	s := newServer(t, n)
	const path = "/2015-03-31/functions/echo/invocations"
	clientContext := base64.StdEncoding.EncodeToString([]byte(`{"a":1}`))
	for _, tc := range []struct {
		name   string
		path   string
		header []string
		status int
		body   string
	}{
		{"plain", path, nil, 200, ""},
		{"dry run", path, []string{"X-Amz-Invocation-Type", "DryRun"}, 204, ""},
		{"dry run of nothing", "/2015-03-31/functions/nope/invocations", []string{"X-Amz-Invocation-Type", "DryRun"}, 404, ""},
		{"event", path, []string{"X-Amz-Invocation-Type", "Event"}, 501, ""},
		{"unknown type", path, []string{"X-Amz-Invocation-Type", "Maybe"}, 400, ""},
		{"client context", path, []string{"X-Amz-Client-Context", clientContext}, 200, `{"a":1}`},
		{"bad client context", path, []string{"X-Amz-Client-Context", "!"}, 400, ""},
		{"long client context", path, []string{"X-Amz-Client-Context", strings.Repeat("A", 3584)}, 400, ""},
		{"qualifier in the query", path + "?Qualifier=live", nil, 200, "live"},
		{"qualifier in the name", "/2015-03-31/functions/echo:live/invocations", nil, 200, "live"},
		{"two qualifiers", "/2015-03-31/functions/echo:1/invocations?Qualifier=live", nil, 400, ""},
	} {
		w := do(s, "POST", tc.path, n.invoker, "{}", tc.header...)
		if w.Code != tc.status || tc.status == 200 && w.Body.String() != tc.body {
			t.Errorf("%s: %d %q, want %d %q", tc.name, w.Code, w.Body, tc.status, tc.body)
		}
		if w.Header().Get("X-Amzn-RequestId") == "" {
			t.Errorf("%s: no request id", tc.name)
		}
	}
	w := do(s, "POST", path, n.invoker, "{}", "X-Amz-Log-Type", "Tail")
	if w.Header().Get("X-Amz-Log-Result") != base64.StdEncoding.EncodeToString([]byte("tail")) || w.Header().Get("X-Amz-Executed-Version") != "1" {
		t.Errorf("headers %v", w.Header())
	}
}

func TestLambdaNameForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"fn":                       "default fn ",
		"fn:live":                  "default fn live",
		"fn:$LATEST":               "default fn $LATEST",
		"123456789012:fn":          "default fn ",
		"123456789012:function:fn": "default fn ",
		"arn:aws:lambda:eu-central-1:123456789012:function:fn":   "default fn ",
		"arn:aws:lambda:eu-central-1:123456789012:function:fn:3": "default fn 3",
		"arn:aws:lambda:eu-central-1:shop:function:fn":           "shop fn ",
		"shop:function:fn:live":                                  "shop fn live",
		"shop/fn":                                                "shop fn ",
		"shop/fn:2":                                              "shop fn 2",
	} {
		app, name, qualifier, err := lambdaName(text)
		if got := fmt.Sprintf("%s %s %s", app, name, qualifier); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a:b:c", "arn:aws:s3:::bucket", "arn:aws:lambda:r:1:layer:x", "/fn", "shop/", "a/b/c", ":fn"} {
		if _, name, _, err := lambdaName(text); err == nil {
			t.Errorf("%q passes as %q", text, name)
		}
	}
}

func TestPooledMemoryIsNotMixedUp(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	_, address, _ := listen(t, n)
	errs := make(chan error)
	const callers = 16
	for c := range callers {
		go func() {
			errs <- func() error {
				for i := range 60 {
					size := []int{0, 1, 100, smallBody, smallBody + 1, 100 << 10}[i%6]
					body := strings.Repeat(string(rune('a'+c)), size)
					var r io.Reader = strings.NewReader(body)
					if i%2 == 1 {
						r = io.MultiReader(r) // hides the length: chunked
					}
					req, err := http.NewRequest("POST", "http://"+address+native, r)
					if err != nil {
						return err
					}
					req.Header.Set("Authorization", "Bearer "+n.invoker)
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						return err
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(got) != body {
						return fmt.Errorf("caller %d: sent %d bytes, got %d, %v", c, size, len(got), err)
					}
				}
				return nil
			}()
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
