package lambda_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

func TestEventCarriesLambdasHeaders(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, func(s *covey.Setup) { s.App = "shop" })
	call := newCall("8476a536-e9f4-11e8-9739-2dfe598c3fcd", []byte(`{"a":1}`))
	call.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	call.Attributes = plugins.Attributes{{Name: "lambda-client-context", Value: "{\n \"custom\": {\"bird\": \"kākāpō \U0001F99C\"}\n}"}}
	call.ContentType = "text/plain"
	out := p.send(call)
	before := time.Now()
	resp, body := p.next(t)
	if body != `{"a":1}` {
		t.Errorf("event %q", body)
	}
	want := map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:shop:function:f:1",
		"Lambda-Runtime-Trace-Id":             "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"Lambda-Runtime-Client-Context":       `{"custom":{"bird":"k\u0101k\u0101p\u014d \ud83e\udd9c"}}`,
		"Lambda-Runtime-Cognito-Identity":     "",
		"Content-Type":                        "application/json",
	}
	for name, value := range want {
		if got := resp.Header.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	ms, err := strconv.ParseInt(resp.Header.Get("Lambda-Runtime-Deadline-Ms"), 10, 64)
	if left := time.UnixMilli(ms).Sub(before); err != nil || left <= 0 || left > patience+time.Second {
		t.Errorf("deadline in %v (%v), want within %v", left, err, patience)
	}
	if got := p.respond(t, call.RequestID, strings.NewReader(`"done"`), nil, 202); got != `{"status":"OK"}`+"\n" {
		t.Errorf("accepted with %q", got)
	}
	if o := <-out; o.err != nil || string(o.body) != `"done"` {
		t.Errorf("the caller got %q, %v", o.body, o.err)
	}
}

func TestCallWithoutTraceAndPayload(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	out := p.send(newCall("a", nil))
	resp, body := p.next(t)
	if _, traced := resp.Header["Lambda-Runtime-Trace-Id"]; traced || body != "{}" {
		t.Errorf("event %q with headers %v", body, resp.Header)
	}
	p.respond(t, "a", strings.NewReader("null"), http.Header{"Content-Type": {"text/csv"}}, 202)
	if o := <-out; o.err != nil || o.reply.ContentType != "text/csv" {
		t.Errorf("the caller got %+v", o)
	}
}

func TestAnswersOutOfTurnAreRefused(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	refused := func(method, path string, status int, typ string) {
		t.Helper()
		resp, body := p.do(t, method, path, strings.NewReader("x"), nil)
		if resp.StatusCode != status || !strings.Contains(body, `"errorType":"`+typ+`"`) || !strings.Contains(body, `"errorMessage":"`) {
			t.Errorf("%s %s: status %d: %s, want %d %s", method, path, resp.StatusCode, body, status, typ)
		}
	}
	refused("POST", "runtime/invocation/none/response", 400, "InvalidRequestID")
	refused("POST", "runtime/invocation/none/error", 400, "InvalidRequestID")
	refused("POST", "runtime/invocation/next", 405, "MethodNotAllowed")
	refused("GET", "runtime/nonsense", 404, "NotFound")
	refused("GET", "../2015-01-01/x", 404, "NotFound")
	out := p.send(newCall("a", nil))
	p.next(t)
	refused("POST", "runtime/init/error", 403, "InvalidStateTransition")
	refused("GET", "runtime/invocation/next", 403, "InvalidStateTransition")
	refused("POST", "runtime/invocation/b/response", 400, "InvalidRequestID")
	header := http.Header{"Lambda-Runtime-Function-Response-Mode": {"sideways"}}
	p.respond(t, "a", strings.NewReader("1"), header, 400)
	p.respond(t, "a", strings.NewReader("1"), nil, 202)
	refused("POST", "runtime/invocation/a/response", 403, "InvalidStateTransition")
	refused("POST", "runtime/invocation/a/error", 403, "InvalidStateTransition")
	if o := <-out; o.err != nil || string(o.body) != "1" {
		t.Errorf("the caller got %q, %v", o.body, o.err)
	}
	if resp, body := p.do(t, "GET", "ping", nil, nil); resp.StatusCode != 200 || body != "pong" {
		t.Errorf("ping: %d %q", resp.StatusCode, body)
	}
}

func TestAnswerDoesNotWaitForTheNextPoll(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	for i := range 3 { // Never a poll before the call is there.
		id := fmt.Sprint("call-", i)
		out := p.send(newCall(id, nil))
		p.next(t)
		p.respond(t, id, strings.NewReader("1"), nil, 202)
		if o := <-out; o.err != nil {
			t.Fatal(o.err)
		}
	}
}

func TestTooLargeAnswer(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	for name, body := range map[string]io.Reader{
		"told":   strings.NewReader(strings.Repeat("x", 6<<20+1)),
		"untold": io.LimitReader(neverEnding{}, 6<<20+1),
	} {
		out := p.send(newCall(name, nil))
		p.next(t)
		if got := p.respond(t, name, body, nil, 413); !strings.Contains(got, "RequestEntityTooLarge") {
			t.Errorf("%s: %s", name, got)
		}
		if e := failure(t, out); e.Type != "ResponseTooLarge" {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	out := p.send(newCall("fits", nil))
	p.next(t)
	p.respond(t, "fits", strings.NewReader(strings.Repeat("x", 6<<20)), nil, 202)
	if o := <-out; o.err != nil || len(o.body) != 6<<20 {
		t.Errorf("%d bytes, %v", len(o.body), o.err)
	}
}

// neverEnding is a reader without an end.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestErrorsOfFunctions(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	cases := []struct {
		name, header, body string
		want               plugins.FunctionError
	}{
		{"returned", "", `{"errorType":"NotFound","errorMessage":"no bird"}`, plugins.FunctionError{Type: "NotFound", Message: "no bird"}},
		{
			"python", "KeyError", `{"errorType":"KeyError","errorMessage":"'x'","requestId":"r","stackTrace":["  File \"a.py\", line 1, in f\n    x\n"]}`,
			plugins.FunctionError{Type: "KeyError", Message: "'x'", Stack: "  File \"a.py\", line 1, in f\n    x", Unhandled: true},
		},
		{
			"go", "", `{"errorMessage":"boom","errorType":"string","stackTrace":[{"path":"a/b.go","line":7,"label":"f"},{"path":"c.go","line":8,"label":"g"}]}`,
			plugins.FunctionError{Type: "string", Message: "boom", Stack: "f\n\ta/b.go:7\ng\n\tc.go:8", Unhandled: true},
		},
		{
			"node", "", `{"errorType":"TypeError","errorMessage":"x","trace":["TypeError: x","    at f (a.js:1:2)"]}`,
			plugins.FunctionError{Type: "TypeError", Message: "x", Stack: "TypeError: x\n    at f (a.js:1:2)", Unhandled: true},
		},
		{"no JSON", "Oops", `it broke`, plugins.FunctionError{Type: "Oops", Message: "it broke"}},
		{"runtime", "Runtime.Wrong", `{"errorMessage":"m"}`, plugins.FunctionError{Type: "Runtime.Wrong", Message: "m", Unhandled: true}},
		{"empty", "", ``, plugins.FunctionError{Type: "Error"}},
	}
	for i, c := range cases {
		id := fmt.Sprint("call-", i)
		out := p.send(newCall(id, nil))
		p.next(t)
		header := http.Header{"Content-Type": {"application/json"}, "Lambda-Runtime-Function-Error-Type": {c.header}}
		resp, text := p.do(t, "POST", "runtime/invocation/"+id+"/error", strings.NewReader(c.body), header)
		if resp.StatusCode != 202 {
			t.Errorf("%s: status %d: %s", c.name, resp.StatusCode, text)
		}
		if e := failure(t, out); *e != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, *e, c.want)
		}
	}
}

var streaming = http.Header{"Lambda-Runtime-Function-Response-Mode": {"streaming"}, "Content-Type": {"text/plain"}}

func TestStreamArrivesPieceByPiece(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, w := io.Pipe()
	var program sync.WaitGroup
	program.Go(func() {
		_, _, err := p.request("GET", "runtime/invocation/next", nil, nil)
		if err == nil {
			_, _, err = p.request("POST", "runtime/invocation/a/response", r, streaming)
		}
		if err != nil {
			t.Errorf("the program: %v", err)
		}
	})
	defer program.Wait()
	reply, err := func() (*plugins.Reply, error) {
		go func() { _, _ = io.WriteString(w, "one") }()
		return p.conn.Invoke(ctx, newCall("a", nil))
	}()
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if reply.Stream == nil || reply.ContentType != "text/plain" {
		t.Fatalf("got %+v, want a stream", reply)
	}
	defer reply.Stream.Close()
	buf := make([]byte, 3)
	for _, want := range []string{"one", "two"} {
		if want == "two" {
			_, _ = io.WriteString(w, want) // Written only now, when the first piece has arrived.
		}
		if _, err := io.ReadFull(reply.Stream, buf); err != nil || string(buf) != want {
			t.Fatalf("got %q, %v, want %q", buf, err, want)
		}
	}
	_ = w.Close()
	if rest, err := io.ReadAll(reply.Stream); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

func TestFailingStreamTellsTheErrorBehindIt(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	for _, body := range []string{"half", ""} {
		out := p.send(newCall("a", nil))
		p.next(t)
		described := base64.StdEncoding.EncodeToString([]byte(`{"errorType":"Torn","errorMessage":"the paper ended"}`))
		p.respond(t, "a", newTrailing(body, map[string]string{
			"Lambda-Runtime-Function-Error-Type": "Torn", "Lambda-Runtime-Function-Error-Body": described,
		}), streaming, 202)
		if e := failure(t, out); e.Type != "Torn" || e.Message != "the paper ended" {
			t.Errorf("after %q: got %+v", body, e)
		}
	}
}

func TestPreludeBecomesStatusAndHeaders(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	header := http.Header{
		"Lambda-Runtime-Function-Response-Mode": {"streaming"},
		"Content-Type":                          {"application/vnd.awslambda.http-integration-response"},
	}
	prelude := `{"statusCode":418,"headers":{"Content-Type":"text/html","X-Count":3},"cookies":["a=1","b=2"]}` + strings.Repeat("\x00", 8)
	out := p.send(newCall("a", nil))
	p.next(t)
	p.respond(t, "a", strings.NewReader(prelude+"<p>\x00"), header, 202)
	o := <-out
	if o.err != nil || string(o.body) != "<p>\x00" {
		t.Fatalf("got %q, %v", o.body, o.err)
	}
	if o.reply.Status != 418 || o.reply.ContentType != "text/html" || o.reply.Attributes.Get("X-Count") != "3" {
		t.Errorf("got %+v", o.reply.Result)
	}
	var cookies []string
	for _, a := range o.reply.Attributes {
		if a.Name == "Set-Cookie" {
			cookies = append(cookies, a.Value)
		}
	}
	if strings.Join(cookies, ";") != "a=1;b=2" {
		t.Errorf("cookies %q", cookies)
	}
	for _, wrong := range []string{"no end", "no JSON" + strings.Repeat("\x00", 8)} {
		out := p.send(newCall("b", nil))
		p.next(t)
		p.respond(t, "b", strings.NewReader(wrong), header, 202)
		if e := failure(t, out); e.Type != "Runtime.InvalidPrelude" {
			t.Errorf("%q: got %+v", wrong, e)
		}
	}
}

func TestAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	for _, header := range []string{"", "Lambda-Runtime-Function-Response-Mode: streaming\r\n"} {
		out := p.send(newCall("a", nil))
		p.next(t)
		c := p.dial(t)
		_, _ = io.WriteString(c, "POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"+header+"\r\nhalf")
		_ = c.Close()
		if e := failure(t, out); e.Type != "Runtime.TruncatedResponse" {
			t.Errorf("got %+v", e)
		}
	}
}

// dial opens a bare connection to the Runtime API.
func (p *puppet) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.env["AWS_LAMBDA_RUNTIME_API"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestContinueIsAskedFor(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	out := p.send(newCall("a", nil))
	p.next(t)
	c := p.dial(t)
	_, _ = io.WriteString(c, "POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(c, "true")
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 202 {
		t.Fatalf("got %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	if o := <-out; o.err != nil || string(o.body) != "true" {
		t.Errorf("the caller got %q, %v", o.body, o.err)
	}
}

func TestNewPollReplacesOneThatNobodyReads(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	c := p.dial(t)
	_, _ = io.WriteString(c, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := p.conn.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		_, body, _ := p.request("GET", "runtime/invocation/next", nil, nil) // An error shows in the body.
		got <- body
	}()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("the first poll got an answer: %v", err)
	}
	out := p.send(newCall("a", []byte("1")))
	if body := <-got; body != "1" {
		t.Errorf("the second poll got %q", body)
	}
	p.respond(t, "a", strings.NewReader("2"), nil, 202)
	if o := <-out; o.err != nil {
		t.Error(o.err)
	}
}

func TestConcurrentPolls(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, func(s *covey.Setup) { s.Concurrency = 3 })
	if p.env["AWS_LAMBDA_MAX_CONCURRENCY"] != "3" {
		t.Errorf("the program may take %q calls at once", p.env["AWS_LAMBDA_MAX_CONCURRENCY"])
	}
	outs := map[string]<-chan outcome{}
	for _, id := range []string{"a", "b", "c"} {
		outs[id] = p.send(newCall(id, []byte(`"`+id+`"`)))
		if resp, _ := p.next(t); resp.Header.Get("Lambda-Runtime-Aws-Request-Id") != id {
			t.Errorf("got the event of %s", resp.Header.Get("Lambda-Runtime-Aws-Request-Id"))
		}
	}
	if resp, _ := p.do(t, "GET", "runtime/invocation/next", nil, nil); resp.StatusCode != 403 {
		t.Errorf("a fourth call is handed out: status %d", resp.StatusCode)
	}
	for _, id := range []string{"b", "c", "a"} {
		p.respond(t, id, strings.NewReader(id), nil, 202)
		if o := <-outs[id]; o.err != nil || string(o.body) != id {
			t.Errorf("%s got %q, %v", id, o.body, o.err)
		}
	}
}

func TestInitErrorReachesTheDeployer(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	out := p.send(newCall("a", nil))
	header := http.Header{"Lambda-Runtime-Function-Error-Type": {"Runtime.ImportModuleError"}}
	resp, _ := p.do(t, "POST", "runtime/init/error", strings.NewReader(`{"errorMessage":"no nest","errorType":"Runtime.ImportModuleError","stackTrace":["at home"]}`), header)
	if resp.StatusCode != 202 {
		t.Errorf("status %d", resp.StatusCode)
	}
	e, ok := errors.AsType[*plugins.InitError]((<-out).err)
	if !ok || e.Type != "Runtime.ImportModuleError" || e.Message != "no nest" || e.Stack != "at home" {
		t.Errorf("got %+v", e)
	}
}

func TestEnvironmentIsLambdas(t *testing.T) {
	t.Parallel()
	var code string
	p := startPuppet(t, func(s *covey.Setup) {
		code = s.Code
		s.Env = append(s.Env, frame.Attribute{Name: "NEST", Value: "twigs = moss"}, frame.Attribute{Name: "_HANDLER", Value: "cuckoo"},
			frame.Attribute{Name: "AWS_REGION", Value: "eu-nest-1"})
		s.Handler = "thing.do"
	})
	want := map[string]string{
		"cwd": code, "LAMBDA_TASK_ROOT": code, "_HANDLER": "thing.do", "NEST": "twigs = moss",
		"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
		"AWS_REGION": "eu-nest-1", "AWS_DEFAULT_REGION": "eu-nest-1", "TZ": ":UTC", "LANG": "C.UTF-8",
		"AWS_EXECUTION_ENV": "", "AWS_LAMBDA_MAX_CONCURRENCY": "", "COVEY_PLUGIN": "",
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": code + ":" + code + "/lib",
	}
	for name, value := range want {
		if p.env[name] != value {
			t.Errorf("%s is %q, want %q", name, p.env[name], value)
		}
	}
	if stream := p.env["AWS_LAMBDA_LOG_STREAM_NAME"]; !strings.Contains(stream, "/[1]") {
		t.Errorf("the log stream is %q", stream)
	}
}
