package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode is a node that answers what a test tells it to, and remembers what
// it was asked.
type fakeNode struct {
	*httptest.Server

	mu   sync.Mutex
	seen []seen // guarded by mu
}

type seen struct{ id, resend, body string }

func (n *fakeNode) asked() []seen {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]seen(nil), n.seen...)
}

// serve starts a node; handle gets each request after it was read.
func serve(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, nth int)) *fakeNode {
	t.Helper()
	n := &fakeNode{}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // cut off
		}
		n.mu.Lock()
		n.seen = append(n.seen, seen{r.Header.Get(wire.HeaderRequestID), r.Header.Get(wire.HeaderResend), string(body)})
		nth := len(n.seen)
		n.mu.Unlock()
		handle(w, r, nth)
	}))
	t.Cleanup(n.Close)
	return n
}

func ok(w http.ResponseWriter, r *http.Request, _ int) {
	w.Header().Set(wire.HeaderRequestID, r.Header.Get(wire.HeaderRequestID))
	w.Header().Set(wire.HeaderStart, "warm")
	_, _ = io.WriteString(w, "pong")
}

// hangUp breaks the connection after the request was read: the outcome is
// unknown to the client.
func hangUp(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) }

func problem(status int, code wire.Code, resend wire.Resend, header ...string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, _ *http.Request, _ int) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set(wire.HeaderError, string(code))
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(wire.Problem{Status: status, Code: code, Resend: resend, Detail: "because"})
	}
}

// closedAddress is one that nobody listens on.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func connect(t *testing.T, change func(*client.Config), addresses ...string) *client.Client {
	t.Helper()
	cfg := client.DefaultConfig()
	cfg.Addresses, cfg.Token = addresses, "secret"
	cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 4*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func call() *client.Call { return &client.Call{Function: "echo", Body: []byte("ping")} }

func TestInvokeGoesToAnotherNodeWhenOneIsDown(t *testing.T) {
	t.Parallel()
	up := serve(t, ok)
	c := connect(t, nil, closedAddress(t), up.URL, closedAddress(t))
	for range 10 {
		reply, err := c.Invoke(t.Context(), call())
		if err != nil || string(reply.Body) != "pong" || reply.RequestID == "" {
			t.Fatalf("%+v, %v", reply, err)
		}
	}
	if n := len(up.asked()); n != 10 {
		t.Errorf("the node was asked %d times for 10 calls", n)
	}
}

func TestCertainlyNotStartedIsSentAgainUnderItsID(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(http.ResponseWriter, *http.Request, int){
		"busy":     problem(429, wire.CodeBusy, wire.ResendSafe),
		"draining": problem(503, wire.CodeDraining, wire.ResendSafe),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := serve(t, func(w http.ResponseWriter, r *http.Request, nth int) {
				if nth < 3 {
					first(w, r, nth)
					return
				}
				ok(w, r, nth)
			})
			c := connect(t, nil, n.URL)
			if _, err := c.Invoke(t.Context(), call()); err != nil {
				t.Fatal(err)
			}
			asked := n.asked()
			for _, s := range asked {
				if s.id == "" || s.id != asked[0].id || s.body != "ping" || s.resend != "" {
					t.Errorf("asked %+v", asked)
				}
			}
		})
	}
}

// TestNodeThatDrainsIsAvoided has a node refuse because it stops: later calls go to
// another one at once, for the first would close its connections under them.
func TestNodeThatDrainsIsAvoided(t *testing.T) {
	t.Parallel()
	leaving := serve(t, func(w http.ResponseWriter, r *http.Request, nth int) {
		w.Header().Set("Retry-After", "3600")
		w.Header().Set("Connection", "close")
		problem(503, wire.CodeDraining, wire.ResendSafe)(w, r, nth)
	})
	other := serve(t, ok)
	c := connect(t, nil, leaving.URL, other.URL)
	for range 10 {
		if _, err := c.Invoke(t.Context(), call()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(leaving.asked()); n != 1 {
		t.Errorf("the node that stops was asked %d times", n)
	}
}

func TestUnknownOutcomeIsLeftToTheCluster(t *testing.T) {
	t.Parallel()
	t.Run("idempotent", func(t *testing.T) {
		t.Parallel()
		lost, other := serve(t, hangUp), serve(t, ok)
		c := connect(t, nil, lost.URL, other.URL)
		for range 4 {
			if _, err := c.Invoke(t.Context(), call()); err != nil {
				t.Fatal(err)
			}
		}
		var marked int
		for _, s := range other.asked() {
			if s.resend == wire.ResendUnknown {
				marked++
			}
		}
		if n := len(lost.asked()); n == 0 || marked != n {
			t.Errorf("%d calls were lost, %d were marked when sent again", n, marked)
		}
	})
	t.Run("not idempotent", func(t *testing.T) {
		t.Parallel()
		lost := serve(t, hangUp)
		other := serve(t, problem(409, wire.CodeNotIdempotent, wire.ResendNo))
		c := connect(t, nil, lost.URL, other.URL)
		for len(lost.asked()) == 0 { // the first address is the other one at times
			_, err := c.Invoke(t.Context(), call())
			if len(lost.asked()) == 0 {
				continue
			}
			unknown, ok := errors.AsType[*client.UnknownOutcomeError](err)
			if !ok || unknown.RequestID != lost.asked()[0].id {
				t.Fatalf("got %v", err)
			}
		}
	})
	t.Run("nobody left to ask", func(t *testing.T) {
		t.Parallel()
		lost := serve(t, hangUp)
		c := connect(t, func(c *client.Config) { c.MaxAttempts = 3 }, lost.URL)
		_, err := c.Invoke(t.Context(), call())
		if _, ok := errors.AsType[*client.UnknownOutcomeError](err); !ok || len(lost.asked()) != 3 {
			t.Fatalf("got %v after %d attempts", err, len(lost.asked()))
		}
	})
	t.Run("answer that breaks off", func(t *testing.T) {
		t.Parallel()
		n := serve(t, func(w http.ResponseWriter, r *http.Request, nth int) {
			if nth > 1 {
				ok(w, r, nth)
				return
			}
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			hangUp(w, r, nth)
		})
		c := connect(t, nil, n.URL)
		reply, err := c.Invoke(t.Context(), call())
		if err != nil || string(reply.Body) != "pong" || n.asked()[1].resend != wire.ResendUnknown {
			t.Errorf("%+v, %v, %+v", reply, err, n.asked())
		}
	})
}

func TestRequestCutBeforeItsEndIsNotUnknown(t *testing.T) {
	t.Parallel()
	// A server that accepts and closes without reading a large request: its last
	// byte cannot have been written.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	c := connect(t, func(c *client.Config) { c.MaxAttempts = 4 }, l.Addr().String())
	_, err = c.Invoke(t.Context(), &client.Call{Function: "echo", Body: make([]byte, 32<<20)})
	if _, ok := errors.AsType[*client.UnreachableError](err); !ok || !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if accepted.Load() < 4 {
		t.Errorf("%d attempts", accepted.Load())
	}
}

func TestErrorsAreTyped(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status int
		code   wire.Code
		want   error
	}{
		{400, wire.CodeBadRequest, client.ErrInvalid},
		{401, wire.CodeUnauthenticated, client.ErrDenied},
		{404, wire.CodeNotFound, client.ErrNotFound},
		{412, wire.CodePrecondition, client.ErrConflict},
		{429, wire.CodeBusy, client.ErrBusy},
		{500, wire.CodeFunctionError, client.ErrFunction},
		{503, wire.CodeNoQuorum, client.ErrUnavailable},
		{504, wire.CodeTimeout, client.ErrTimeout},
	} {
		n := serve(t, problem(tc.status, tc.code, wire.ResendNo))
		_, err := connect(t, nil, n.URL).Invoke(t.Context(), call())
		answer, ok := errors.AsType[*client.Error](err)
		if !ok || !errors.Is(err, tc.want) || answer.Code != tc.code || len(n.asked()) != 1 {
			t.Errorf("%s: %v after %d attempts", tc.code, err, len(n.asked()))
		}
	}
	t.Run("somebody else's answer", func(t *testing.T) {
		t.Parallel()
		n := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<html>no")
		})
		_, err := connect(t, nil, n.URL).Status(t.Context())
		if answer, ok := errors.AsType[*client.Error](err); !ok || answer.Status != 403 || !strings.Contains(answer.Error(), "<html>no") {
			t.Errorf("got %v", err)
		}
	})
}

func TestStatusOfAFunctionIsNoError(t *testing.T) {
	t.Parallel()
	n := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.WriteHeader(http.StatusTooManyRequests) // the function's own choice
		_, _ = io.WriteString(w, "slow down")
	})
	reply, err := connect(t, nil, n.URL).Invoke(t.Context(), call())
	if err != nil || reply.Status != 429 || string(reply.Body) != "slow down" || len(n.asked()) != 1 {
		t.Errorf("%+v, %v", reply, err)
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	t.Parallel()
	n := serve(t, problem(429, wire.CodeBusy, wire.ResendSafe, "Retry-After", "3600"))
	c := connect(t, nil, n.URL)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	_, err := c.Invoke(ctx, call())
	// An hour does not fit into the minute, so there is no point in waiting.
	if !errors.Is(err, client.ErrBusy) || len(n.asked()) != 1 || time.Since(start) > 10*time.Second {
		t.Errorf("got %v after %d attempts", err, len(n.asked()))
	}
	if answer, ok := errors.AsType[*client.Error](err); !ok || answer.RetryAfter != time.Hour {
		t.Errorf("got %+v", answer)
	}
}

func TestContextEndsTheRetries(t *testing.T) {
	t.Parallel()
	c := connect(t, func(c *client.Config) {
		c.MaxAttempts, c.BackoffMin, c.BackoffMax = 1000, time.Hour, time.Hour
	}, closedAddress(t))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Invoke(ctx, call()); err == nil {
		t.Error("no error")
	}
}

func TestCallCarriesItsFacts(t *testing.T) {
	t.Parallel()
	var got *http.Request
	n := serve(t, func(w http.ResponseWriter, r *http.Request, nth int) {
		got = r.Clone(context.Background())
		ok(w, r, nth)
	})
	c := connect(t, nil, n.URL)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Invoke(ctx, &client.Call{
		App: "shop", Function: "pay", Qualifier: "$LATEST", RequestID: "r1", Attributes: map[string]string{"Width": "2"}, Logs: true,
	}); err != nil {
		t.Fatal(err)
	}
	if got.URL.String() != "/v1/apps/shop/functions/pay/invocations?qualifier=%24LATEST" || got.Header.Get("Authorization") != "Bearer secret" ||
		got.Header.Get(wire.HeaderAttributePrefix+"Width") != "2" || got.Header.Get(wire.HeaderLog) != "tail" ||
		got.Header.Get(wire.HeaderRequestID) != "r1" || got.Header.Get(wire.HeaderTimeout) == "" {
		t.Errorf("sent %v %v", got.URL, got.Header)
	}
}

func TestInvokeToStreams(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	n := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "two")
	})
	out := &notifier{wrote: release}
	if _, err := connect(t, nil, n.URL).InvokeTo(t.Context(), call(), out); err != nil || out.String() != "onetwo" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// notifier closes wrote at the first write.
type notifier struct {
	buf   bytes.Buffer
	once  sync.Once
	wrote chan struct{}
}

func (n *notifier) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.wrote) })
	return n.buf.Write(p)
}

func (n *notifier) String() string { return n.buf.String() }

func TestStreamIsNotSentAgainAfterItsFirstByte(t *testing.T) {
	t.Parallel()
	n := serve(t, func(w http.ResponseWriter, r *http.Request, nth int) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		hangUp(w, r, nth)
	})
	var out bytes.Buffer
	_, err := connect(t, nil, n.URL).InvokeTo(t.Context(), call(), &out)
	if _, ok := errors.AsType[*client.UnknownOutcomeError](err); !ok || out.String() != "half" || len(n.asked()) != 1 {
		t.Errorf("%q, %v, %d attempts", out.String(), err, len(n.asked()))
	}
}

func TestManagementIsSentAgainOnlyWhereThatIsHarmless(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		do    func(*client.Client) error
		again bool
	}{
		{"deploy", func(c *client.Client) error {
			_, err := c.Deploy(context.Background(), "default", "f", wire.DeployRequest{})
			return err
		}, true},
		{"list", func(c *client.Client) error {
			_, err := c.Functions(context.Background(), "")
			return err
		}, true},
		{"create a token", func(c *client.Client) error {
			_, err := c.CreateToken(context.Background(), wire.TokenRequest{})
			return err
		}, false},
		{"upload", func(c *client.Client) error {
			_, err := c.Upload(context.Background(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("code")), nil }, 4)
			return err
		}, true},
	} {
		n := serve(t, func(w http.ResponseWriter, r *http.Request, nth int) {
			if nth == 1 {
				hangUp(w, r, nth)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		})
		err := tc.do(connect(t, nil, n.URL))
		asked := n.asked()
		if (err == nil) != tc.again || (len(asked) == 2) != tc.again {
			t.Errorf("%s: %v after %d attempts", tc.name, err, len(asked))
		}
		if len(asked) == 2 && (asked[0].id != asked[1].id || asked[0].body != asked[1].body) {
			t.Errorf("%s: sent again as another request: %+v", tc.name, asked)
		}
	}
}

func TestLogsYieldLines(t *testing.T) {
	t.Parallel()
	n := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path != "/v1/apps/default/functions/echo/logs" || r.URL.Query().Get("follow") != "true" {
			w.WriteHeader(http.StatusNotFound)
		}
		for i := range 3 {
			fmt.Fprintf(w, "{\"text\":\"line %d\"}\n\n", i)
		}
	})
	var got []string
	for line, err := range connect(t, nil, n.URL).Logs(t.Context(), wire.LogQuery{Function: "echo", Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, line.Text); len(got) == 2 {
			break
		}
	}
	if strings.Join(got, ",") != "line 0,line 1" {
		t.Errorf("got %q", got)
	}
}

func TestConfigReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, err := client.New(client.Config{Addresses: []string{"ftp://x", "http://h/path"}})
	for _, want := range []string{"ftp://x", "http://h/path", "MaxAttempts", "Backoff", "DialTimeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func TestValidRequestID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"01JD3Y3K9V6T5R0ZC8M2B1X4QF": true, "11111111-2222-3333-4444-555555555555": true, "a.b_c": true,
		"": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false,
	} {
		if wire.ValidRequestID(id) != want {
			t.Errorf("%q: valid is %v", id, !want)
		}
	}
}
