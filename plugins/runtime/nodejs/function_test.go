package nodejs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
)

// js is a function of one CommonJS file.
func js(text string) map[string]string { return map[string]string{"index.js": text} }

// TestEventsAndAnswers covers what a handler gets for an input and what its value becomes.
func TestEventsAndAnswers(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const kind = (v) => Buffer.isBuffer(v) ? 'bytes' : v === null ? 'null' : typeof v;
		const answers = {
			text: 'héllo', bytes: Buffer.from([1, 2, 3]), array: new Uint8Array([4, 5]), buffer: new ArrayBuffer(2), json: { a: [1, null] },
			number: 7, nothing: undefined, null: null, map: new Map(),
		};
		exports.handler = (event, context) => {
			if (context.attributes.answer) return answers[context.attributes.answer];
			return { kind: kind(event), event: Buffer.isBuffer(event) ? event.toString('hex') : event, payload: context.payload.toString('hex') };
		};`))
	for _, c := range []struct{ contentType, body, kind, event string }{
		{"", `{"a":1}`, "object", `{"a":1}`},
		{"", ``, "object", `{}`},
		{"application/json; charset=utf-8", `"text"`, "string", `"text"`},
		{"application/vnd.api+json", `[1]`, "object", `[1]`},
		{"text/plain", `{"a":1}`, "string", `"{\"a\":1}"`},
		{"application/octet-stream", `{"a":1}`, "object", `{"a":1}`},
		{"application/octet-stream", "{\xff", "bytes", `"7bff"`},
		{"application/x-www-form-urlencoded", `{"a":1}`, "object", `{"a":1}`},
		{"application/x-www-form-urlencoded", `a=1`, "string", `"a=1"`},
		{"image/png", "\x89PNG", "bytes", `"89504e47"`},
	} {
		call := plugins.Call{Body: []byte(c.body)}
		call.ContentType = c.contentType
		_, body, err := i.invoke(t, call)
		if err != nil {
			t.Errorf("%s %q: %v", c.contentType, c.body, err)
			continue
		}
		want := fmt.Sprintf(`{"kind":%q,"event":%s,"payload":"%x"}`, c.kind, c.event, c.body)
		if string(body) != want {
			t.Errorf("%s %q: got %s, want %s", c.contentType, c.body, body, want)
		}
	}
	for _, c := range []struct{ name, contentType, body string }{
		{"text", "text/plain; charset=utf-8", "héllo"},
		{"bytes", "application/octet-stream", "\x01\x02\x03"},
		{"array", "application/octet-stream", "\x04\x05"},
		{"buffer", "application/octet-stream", "\x00\x00"},
		{"json", "application/json", `{"a":[1,null]}`},
		{"number", "application/json", "7"},
		{"nothing", "application/json", "null"},
		{"null", "application/json", "null"},
		{"map", "application/json", "{}"},
	} {
		var call plugins.Call
		call.Attributes = plugins.Attributes{{Name: "answer", Value: c.name}}
		reply, body, err := i.invoke(t, call)
		if err != nil || string(body) != c.body || reply.ContentType != c.contentType {
			t.Errorf("%s: got %q %q, %v", c.name, reply.ContentType, body, err)
		}
	}
}

// TestErrors covers what becomes of what a handler throws.
func TestErrors(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const { CoveyError } = require('covey');
		class OutOfStock extends Error {}
		const throwers = {
			typed() { throw new CoveyError('NotFound', 'no bird'); },
			async rejected() { await null; throw new OutOfStock('none left'); },
			type() { null.x; },
			code() { require('fs').readFileSync('/nowhere'); },
			text() { throw 'a text'; },
			nothing() { throw undefined; },
			circular() { const a = {}; a.a = a; return a; },
			cause() { throw new Error('outer', { cause: new Error('inner') }); },
			hostile() { throw { get message() { throw 1; } }; },
			deep() { (function f() { f(); })(); },
			later() { return new Promise(() => setTimeout(() => { throw new TypeError('from a timer'); }, 1)); },
			floating() { Promise.reject(new RangeError('floats')); return new Promise(() => {}); },
		};
		exports.handler = ({ how }) => throwers[how]();`))
	for _, c := range []struct {
		how, kind, message, stack string
		meant                     bool
	}{
		{"typed", "NotFound", "no bird", "", true},
		{"rejected", "OutOfStock", "none left", "index.js:6", false},
		{"type", "TypeError", "Cannot read properties of null (reading 'x')", "index.js:7", false},
		{"code", "ENOENT", "ENOENT: no such file or directory, open '/nowhere'", "index.js:8", false},
		{"text", "string", "a text", "thrown: a text", false},
		{"nothing", "undefined", "undefined", "thrown: undefined", false},
		{"circular", "TypeError", "Converting circular structure", "TypeError", false},
		{"cause", "Error", "outer", "caused by: Error: inner", false},
		{"hostile", "Error", "an error that cannot be read", "", false},
		{"deep", "RangeError", "Maximum call stack size exceeded", "index.js:14", false},
		{"later", "TypeError", "from a timer", "index.js:15", false},
		{"floating", "RangeError", "floats", "index.js:16", false},
	} {
		_, _, err := i.invoke(t, plugins.Call{Body: []byte(`{"how":"` + c.how + `"}`)})
		f, ok := errors.AsType[*plugins.FunctionError](err)
		if !ok || f.Type != c.kind || !strings.HasPrefix(f.Message, c.message) || f.Unhandled == c.meant {
			t.Errorf("%s: got %#v, %v", c.how, f, err)
			continue
		}
		if !strings.Contains(f.Stack, c.stack) || strings.Contains(f.Stack, "node:internal") || strings.Contains(f.Stack, "/runtime/") {
			t.Errorf("%s: stack %s", c.how, f.Stack)
		}
	}
	_, _, err := i.invoke(t, plugins.Call{Body: []byte(`{"how":`)})
	if f, ok := errors.AsType[*plugins.FunctionError](err); !ok || f.Type != "InvalidInput" || f.Unhandled {
		t.Errorf("broken JSON: got %v", err)
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	i := start(t, js(`exports.handler = (event, context, callback) => {
		setTimeout(() => event.fail ? callback(new Error('told')) : callback(null, { n: event.n }), 1);
	};`))
	if _, body, err := i.invoke(t, plugins.Call{Body: []byte(`{"n":3}`)}); err != nil || string(body) != `{"n":3}` {
		t.Errorf("got %s, %v", body, err)
	}
	_, _, err := i.invoke(t, plugins.Call{Body: []byte(`{"fail":1}`)})
	if f, ok := errors.AsType[*plugins.FunctionError](err); !ok || f.Message != "told" || f.Unhandled {
		t.Errorf("got %v", err)
	}
}

// TestErrorOutsideCallEndsProcess has code run wild after its call, while another call runs.
func TestErrorOutsideCallEndsProcess(t *testing.T) {
	t.Parallel()
	for _, wild := range []string{`throw new Error('wild')`, `Promise.reject(new Error('wild'))`} {
		i := start(t, js(`exports.handler = ({ wait }) => {
			if (wait) return new Promise(() => {});
			setTimeout(() => { `+wild+`; }, 20);
			return 1;
		};`))
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := i.invoke(t, plugins.Call{Body: []byte(`{"wait":true}`)})
			if _, ok := errors.AsType[*plugins.ExitError](err); !ok {
				t.Errorf("the call in flight: %v", err)
			}
		})
		if _, _, err := i.invoke(t, plugins.Call{}); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if status := i.wait(t); status != 1 || !strings.Contains(i.stderr.String(), "Error: wild") {
			t.Errorf("status %d, said %s", status, i.stderr.String())
		}
	}
}

// TestFunctionMayCatchItself has a function with a handler of its own for what nobody caught.
func TestFunctionMayCatchItself(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		let caught = 0;
		process.on('uncaughtException', () => caught++);
		setTimeout(() => { throw new Error('wild'); }, 1);
		exports.handler = async () => { while (!caught) await new Promise((r) => setTimeout(r, 1)); return caught; };`))
	if _, body, err := i.invoke(t, plugins.Call{}); err != nil || string(body) != "1" {
		t.Errorf("got %s, %v", body, err)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const { Readable } = require('stream');
		const parts = ['one ', Buffer.from('two '), new Uint8Array([51])];
		exports.handler = async (event, context) => {
			context.setStatus(206);
			if (event.type) context.setContentType(event.type);
			switch (event.as) {
			case 'async': return (async function* () { for (const p of parts) { await null; yield p; } })();
			case 'sync': return (function* () { yield* parts; })();
			case 'readable': return Readable.from(parts);
			case 'web': return new Blob(['one two 3']).stream();
			case 'empty': return (async function* () {})();
			case 'wrong': return (async function* () { yield 'x'; yield 3; })();
			case 'early': return (async function* () { throw new Error('early'); })();
			}
		};
		exports.generator = async function* () { yield 'generated'; };`))
	for _, as := range []string{"async", "sync", "readable", "web"} {
		reply, body, err := i.invoke(t, plugins.Call{Body: []byte(`{"as":"` + as + `","type":"text/x"}`)})
		if err != nil || string(body) != "one two 3" || reply.ContentType != "text/x" || reply.Status != 206 {
			t.Errorf("%s: got %+v %q, %v", as, reply, body, err)
		}
	}
	if _, body, err := i.invoke(t, plugins.Call{Body: []byte(`{"as":"empty"}`)}); err != nil || len(body) != 0 {
		t.Errorf("empty: %q, %v", body, err)
	}
	for as, message := range map[string]string{"wrong": "a stream consists of strings and bytes, not of number", "early": "early"} {
		_, _, err := i.invoke(t, plugins.Call{Body: []byte(`{"as":"` + as + `"}`)})
		if f, ok := errors.AsType[*plugins.FunctionError](err); !ok || f.Message != message {
			t.Errorf("%s: got %v", as, err)
		}
	}
}

// TestStreamIsPaced reads nothing of an endless stream: the function may run ahead by the window, no more, and
// stops when the reader goes away.
func TestStreamIsPaced(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		let made = 0, ended = false, aborted = false;
		exports.handler = ({ watch }, context) => {
			if (watch) return { made, ended, aborted };
			context.signal.addEventListener('abort', () => (aborted = true));
			return (async function* () {
				try { for (;;) { made += 100000; yield Buffer.alloc(100000); } } finally { ended = true; }
			})();
		};`))
	type state struct {
		Made           int
		Ended, Aborted bool
	}
	watch := func() (s state) {
		_, body, err := i.invoke(t, plugins.Call{Body: []byte(`{"watch":true}`)})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reply, err := i.conn.Invoke(ctx, &plugins.Call{})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3<<20)
	if n, err := io.ReadFull(reply.Stream, buf); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	// It is ahead by the window at most, and the piece that waits.
	if s := watch(); s.Made > len(buf)+3<<20 || s.Ended {
		t.Errorf("after %d bytes: %+v", len(buf), s)
	}
	_ = reply.Stream.Close()
	reply.Release()
	eventually(t, func() error {
		if s := watch(); !s.Ended || !s.Aborted {
			return fmt.Errorf("the function goes on: %+v", s)
		}
		return nil
	})
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	i := start(t, js(`exports.handler = (event, context) => context.payload;`))
	for _, size := range []int{1, 16 << 10, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 6 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		call := plugins.Call{Body: body}
		call.ContentType = "application/x-test"
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, got, err := i.invoke(t, call); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes: got %d, %v", size, len(got), err)
				}
			})
		}
		wg.Wait()
	}
}

// eventually polls check until it succeeds.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
