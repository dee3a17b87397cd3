package lambda_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// startWith starts an instance of a package.
func startWith(t testing.TB, setup *covey.Setup) *blank {
	t.Helper()
	b := startBlank(t)
	if err := b.conn.Setup(setup); err != nil {
		t.Fatal(err)
	}
	return b
}

var timeZero time.Time

// pythonSetup is a package of one Python file.
func pythonSetup(t testing.TB, source string, env ...string) *covey.Setup {
	t.Helper()
	need(t, "python3")
	return setupOf(write(t, map[string]string{"app.py": source}), "app.handler", env...)
}

// nodeSetup is a package of one JavaScript file.
func nodeSetup(t testing.TB, name, source string, env ...string) *covey.Setup {
	t.Helper()
	need(t, "node")
	return setupOf(write(t, map[string]string{name: source}), "app.handler", env...)
}

func TestCallLeavesLambdasLines(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	for i, id := range []string{"8476a536-e9f4-11e8-9739-2dfe598c3fcd", "second"} {
		out := p.send(newCall(id, nil))
		p.next(t)
		p.respond(t, id, strings.NewReader("1"), nil, 202)
		<-out
		init := `\tInit Duration: \d+\.\d\d ms`
		if i > 0 {
			init = ""
		}
		want := regexp.MustCompile(`^START RequestId: ` + id + ` Version: 1\nEND RequestId: ` + id + `\nREPORT RequestId: ` + id + init +
			`\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB\tMax Memory Used: [1-9]\d* MB\n$`)
		p.reported(t, id)
		if got := messages(p.lines(id)); !want.MatchString(got) {
			t.Errorf("got %q", got)
		}
	}
}

func TestOutputStandsBetweenACallsLines(t *testing.T) {
	t.Parallel()
	b := startWith(t, pythonSetup(t, `
import sys
def handler(event, context):
    print("plain")
    sys.stderr.write("to stderr\n")
    sys.stdout.write("no end")
    return 1
`))
	for i := range 20 {
		b.invoke(t, fmt.Sprint("call-", i), nil)
	}
	b.reported(t, "call-19")
	one := "START.*\nplain\nto stderr\nno end\nEND.*\nREPORT.*\n"
	var all strings.Builder
	for line := range strings.Lines(b.output.String()) {
		all.WriteString(plugins.ParseLogLine([]byte(line), timeZero).Message + "\n")
	}
	if !regexp.MustCompile("^(" + one + "){20}$").MatchString(all.String()) {
		t.Errorf("got\n%s", all.String())
	}
}

func TestLinesInLambdasJSONFormatAreTranslated(t *testing.T) {
	t.Parallel()
	b := startWith(t, pythonSetup(t, `
import json, logging
def handler(event, context):
    logging.getLogger("nest").warning("two\nlines", extra={"eggs": 3})
    print(json.dumps({"level": "DEBUG", "timestamp": "2026-01-02T03:04:05.678Z", "message": {"a": 1}, "requestId": "other"}))
    print('{"level": "INFO", "nothing": "else"}')
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("caught")
    return 1
`))
	b.invoke(t, "a", nil)
	b.reported(t, "a")
	lines := b.lines("a")
	find := func(message string) plugins.LogLine {
		i := slices.IndexFunc(lines, func(l plugins.LogLine) bool { return l.Message == message })
		if i < 0 {
			t.Fatalf("no %q among %+v", message, lines)
		}
		return lines[i]
	}
	if l := find("two\nlines"); l.Level != "warn" || !strings.Contains(string(l.Fields), `"eggs":3`) || !strings.Contains(string(l.Fields), `"logger":"nest"`) {
		t.Errorf("got %+v", l)
	}
	if l := find("caught"); l.Level != "error" || !strings.Contains(string(l.Fields), "ZeroDivisionError") {
		t.Errorf("got %+v", l)
	}
	lines = b.lines("other")
	if l := find(`{"a": 1}`); l.Level != "debug" || l.Time.Year() != 2026 {
		t.Errorf("got %+v", l)
	}
	lines = b.lines("")
	find(`{"level": "INFO", "nothing": "else"}`)
}

func TestTextFormatIsLeftAlone(t *testing.T) {
	t.Parallel()
	python := pythonSetup(t, "import logging\ndef handler(event, context):\n    logging.getLogger().warning('careful')\n", "AWS_LAMBDA_LOG_FORMAT=Text")
	node := nodeSetup(t, "app.js", "exports.handler = async () => { console.warn('careful'); };", "AWS_LAMBDA_LOG_FORMAT=Text")
	for name, setup := range map[string]*covey.Setup{"python": python, "node": node} {
		b := startWith(t, setup)
		b.invoke(t, "a", nil)
		b.reported(t, "a")
		if got := messages(b.lines("")); !regexp.MustCompile(`(?m)^(\[WARNING\]\t\S+Z\ta|\S+Z\ta\tWARN)\tcareful$`).MatchString(got) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestExitDuringACallEndsTheInstance(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]int{
		"import sys\ndef handler(event, context):\n    sys.exit(7)\n":                                 7,
		"import os, signal\ndef handler(event, context):\n    os.kill(os.getpid(), signal.SIGKILL)\n": 128 + 9,
	} {
		b := startWith(t, pythonSetup(t, source))
		_, err := b.try(newCall("a", nil))
		if exit, ok := errors.AsType[*plugins.ExitError](err); !ok || errors.Is(err, plugins.ErrNotStarted) {
			t.Errorf("got %v (%v), want an exit", err, exit)
		}
		_ = b.cmd.Wait()
		if got := b.cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("the host ended with status %d, want %d", got, want)
		}
	}
}

func TestExitBetweenCallsStartsTheProgramAgain(t *testing.T) {
	t.Parallel()
	b := startWith(t, nodeSetup(t, "app.cjs", `
exports.handler = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  callback(null, process.pid);
  if (event.leave) setTimeout(() => process.exit(3), 1);
};`))
	seen := map[string]bool{}
	for i := range 5 {
		seen[string(b.invoke(t, fmt.Sprint("call-", i), []byte(`{"leave":true}`)))] = true
		eventually(t, func() error {
			if n := strings.Count(b.output.String(), "exit status 3 between calls"); n < i+1 {
				return fmt.Errorf("%d exits", n)
			}
			return nil
		})
	}
	if len(seen) != 5 {
		t.Errorf("processes %v, want 5", seen)
	}
}

func TestProgramThatLeavesByItselfEndsTheInstance(t *testing.T) {
	t.Parallel()
	b := startWith(t, pythonSetup(t, "import os, threading\nthreading.Timer(0.1, os._exit, [5]).start()\ndef handler(event, context):\n    pass\n"))
	if _, err := b.conn.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = b.cmd.Wait() // Without a call in between, nothing says that the next run would stay.
	if got := b.cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("the host ended with status %d", got)
	}
}

func TestExitDuringInitShowsWhatItSaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, want string }{
		"exit":   {"#!/bin/sh\necho first; echo 'no nest' >&2; exit 3\n", "ended with exit status 3 before it asked for its first event; it said:\nfirst\nno nest"},
		"signal": {"#!/bin/sh\nkill -9 $$\n", "was ended by signal 9 (killed) before"},
		"no program": {
			"#!/no/such/interpreter\n", "start /",
		},
	} {
		b := startWith(t, setupOf(write(t, map[string]string{"bootstrap": c.script}), ""))
		_, err := b.try(newCall("a", nil))
		failed, ok := errors.AsType[*plugins.InitError](err)
		if !ok || !strings.Contains(failed.Message, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestInitErrorsOfOurClients(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		setup         *covey.Setup
		typ, in, deep string
	}{
		"python import":  {pythonSetup(t, "import no_such_bird\n"), "Runtime.ImportModuleError", "no_such_bird", "app.py"},
		"python raises":  {pythonSetup(t, "def f():\n    raise KeyError('nest')\nf()\n"), "KeyError", "nest", "app.py\", line 2, in f"},
		"python syntax":  {pythonSetup(t, "def handler(:\n"), "Runtime.UserCodeSyntaxError", "app", "app.py"},
		"python missing": {pythonSetup(t, "x = 1\n"), "Runtime.HandlerNotFound", "handler", ""},
		"node import":    {nodeSetup(t, "app.js", "require('no-such-bird')"), "Runtime.ImportModuleError", "no-such-bird", "app.js"},
		"node esm":       {nodeSetup(t, "app.mjs", "import 'no-such-bird'"), "Runtime.ImportModuleError", "no-such-bird", ""},
		"node throws":    {nodeSetup(t, "app.js", "throw new RangeError('nest')"), "RangeError", "nest", "app.js"},
		"node syntax":    {nodeSetup(t, "app.js", "const = 1"), "Runtime.UserCodeSyntaxError", "Unexpected", "app.js"},
		"node missing":   {nodeSetup(t, "app.js", "exports.other = 1"), "Runtime.HandlerNotFound", "handler", ""},
		"node rejection": {nodeSetup(t, "app.js", "Promise.reject(new Error('nest')); exports.handler = async () => 1"), "Runtime.UnhandledPromiseRejection", "nest", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := startWith(t, c.setup).try(newCall("a", nil))
			e, ok := errors.AsType[*plugins.InitError](err)
			if !ok || e.Type != c.typ || !strings.Contains(e.Message, c.in) || !strings.Contains(e.Stack, c.deep) {
				t.Errorf("got %+v (%v)", e, err)
			}
		})
	}
}

func TestHandlersInJavaScript(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ file, source, want string }{
		"async":         {"app.mjs", "export const handler = async (e) => ({ n: e.n + 1 });", `{"n":2}`},
		"nothing":       {"app.mjs", "export const handler = async () => {};", "null"},
		"promise":       {"app.js", "exports.handler = (e) => Promise.resolve(e.n);", "1"},
		"callback":      {"app.js", "exports.handler = (e, c, done) => { setTimeout(() => done(null, e.n), 1); };", "1"},
		"loop empties":  {"app.js", "let n = 0; exports.handler = (e, c, done) => { done(null, { get n() { return n; } }); setTimeout(() => { n = 9; }, 20); };", `{"n":9}`},
		"not awaited":   {"app.js", "exports.handler = (e, c, done) => { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1e6); done(null, 1); };", "1"},
		"no callback":   {"app.js", "exports.handler = () => {};", "null"},
		"succeed":       {"app.cjs", "exports.handler = (e, c) => c.succeed('old');", `"old"`},
		"stream unused": {"app.mjs", "export const handler = awslambda.streamifyResponse(async (e, out) => { out.write('a'); out.write({ b: 1 }); out.end('c'); });", `a{"b":1}c`},
		"slow stream": {
			"app.mjs", "export const handler = awslambda.streamifyResponse(async (e, out) => { out.write('a'); await new Promise((r) => setTimeout(r, 20)); out.end('b'); });", "ab",
		},
		"prelude": {"app.mjs", "export const handler = awslambda.streamifyResponse(async (e, out) => { out = awslambda.HttpResponseStream.from(out, { statusCode: 201 }); out.end('x'); });", "x"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startWith(t, nodeSetup(t, c.file, c.source))
			for i := range 3 {
				if got := string(b.invoke(t, fmt.Sprint("call-", i), []byte(`{"n":1}`))); got != c.want {
					t.Errorf("call %d: got %s, want %s", i, got, c.want)
				}
			}
		})
	}
}

func TestFailuresInJavaScript(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ source, typ, message string }{
		"callback":      {"exports.handler = (e, c, done) => done(new TypeError('x'));", "TypeError", "x"},
		"text":          {"exports.handler = (e, c, done) => done('x');", "string", "x"},
		"never settled": {"exports.handler = async () => { await new Promise(() => {}); };", "Runtime.NodeJsExit", "nothing is left"},
		"circular":      {"exports.handler = async () => { const a = {}; a.a = a; return a; };", "Runtime.MarshalError", "circular"},
		"rejection":     {"exports.handler = async () => { Promise.reject(new Error('left')); await new Promise((r) => setTimeout(r, 1e5)); };", "Runtime.UnhandledPromiseRejection", "left"},
		"late throw":    {"exports.handler = async () => { setTimeout(() => { throw new RangeError('late'); }, 1); await new Promise((r) => setTimeout(r, 1e5)); };", "RangeError", "late"},
		"stream unended": {
			"exports.handler = awslambda.streamifyResponse(async (e, out) => {});", "Runtime.StreamError", "not finished",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startWith(t, nodeSetup(t, "app.js", c.source))
			for i := range 2 {
				_, err := b.try(newCall(fmt.Sprint("call-", i), nil))
				e, ok := errors.AsType[*plugins.FunctionError](err)
				if !ok || e.Type != c.typ || !strings.Contains(e.Message, c.message) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestContextOfPython(t *testing.T) {
	t.Parallel()
	b := startWith(t, pythonSetup(t, `
import decimal, os
def handler(event, context):
    cc = context.client_context
    return {
        "bird": cc.custom["bird"] if cc else None, "title": cc.client.app_title if cc else None,
        "memory": context.memory_limit_in_mb, "identity": context.identity.cognito_identity_id,
        "half": decimal.Decimal("0.5"), "env": os.environ.get("_X_AMZN_TRACE_ID"),
    }
`))
	call := newCall("a", nil)
	call.Attributes = plugins.Attributes{{Name: "lambda-client-context", Value: `{"custom":{"bird":"kākāpō"},"client":{"app_title":"T"}}`}}
	got, err := b.try(call)
	want := `{"bird": "kākāpō", "title": "T", "memory": "256", "identity": null, "half": 0.5, "env": null}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestUsageOfTheProgramIsReported(t *testing.T) {
	t.Parallel()
	b := startWith(t, pythonSetup(t, "def handler(event, context):\n    x = bytearray(b'x') * (64 << 20)\n    for i in range(1000000): pass\n    return len(x)\n"))
	ctx := t.Context()
	reply, err := b.conn.Invoke(ctx, newCall("a", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if s := reply.Stats; s.CPU < 1e6 || s.PeakMemory < 64<<20 || s.Init <= 0 {
		t.Errorf("got %+v", s)
	}
}

func TestNobodyOutlivesTheHost(t *testing.T) {
	t.Parallel()
	b := startWith(t, pythonSetup(t, "import os\ndef handler(event, context):\n    return os.getpid()\n"))
	pid := string(b.invoke(t, "a", nil))
	_ = b.cmd.Process.Kill()
	eventually(t, func() error {
		status, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err == nil && !strings.Contains(string(status), ") Z ") {
			return fmt.Errorf("the program lives: %s", status)
		}
		return nil
	})
}

func TestDrainFinishesTheCall(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	out := p.send(newCall("a", nil))
	p.next(t)
	if err := p.conn.Drain(); err != nil {
		t.Fatal(err)
	}
	// The process may end before the program hears that its answer has arrived.
	_, _, _ = p.request("POST", "runtime/invocation/a/response", strings.NewReader("1"), nil)
	if o := <-out; o.err != nil || string(o.body) != "1" {
		t.Errorf("got %q, %v", o.body, o.err)
	}
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != 0 {
		t.Errorf("the host ended with status %d", got)
	}
}

func TestGarbageOnTheAPIHurtsNobody(t *testing.T) {
	t.Parallel()
	p := startPuppet(t, nil)
	for _, garbage := range []string{"", "\x00\xff\r\n\r\n", "GET\r\n\r\n", "POST /2018-06-01/runtime/invocation//response HTTP/1.1\r\nContent-Length: -1\r\n\r\n"} {
		c := p.dial(t)
		_, _ = io.WriteString(c, garbage)
		_ = c.Close()
	}
	out := p.send(newCall("a", nil))
	p.next(t)
	p.respond(t, "a", strings.NewReader("1"), nil, 202)
	if o := <-out; o.err != nil {
		t.Error(o.err)
	}
}
