package nodejs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/runtime/nodejs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

// TestHandlersAreFound covers the forms in which a function's code may come, with the SDK and without.
func TestHandlersAreFound(t *testing.T) {
	t.Parallel()
	const script, module = `const { log } = require('covey'); exports.handler = () => typeof log.info;`,
		`import covey, { log } from 'covey'; export const handler = () => covey.log === log && typeof log.info;`
	for _, c := range []struct {
		name, handler string
		files         map[string]string
	}{
		{"script", "", map[string]string{"index.js": script}},
		{"cjs", "", map[string]string{"index.cjs": script}},
		{"mjs", "", map[string]string{"index.mjs": module}},
		{"package of modules", "", map[string]string{"index.js": module, "package.json": `{"type":"module"}`}},
		{"package of scripts", "", map[string]string{"index.js": script, "package.json": `{"type":"commonjs"}`}},
		{"folder", "src/app.main.run", map[string]string{
			"package.json": `{"type":"module"}`, "src/app.js": `import { log } from 'covey'; export const main = { run: () => typeof log.info };`,
		}},
		{"default export", "app.handler", map[string]string{"app.mjs": `import c from 'covey'; export default { handler: () => typeof c.log.info };`}},
		{"default itself", "app.default", map[string]string{"app.mjs": `import c from 'covey'; export default () => typeof c.log.info;`}},
		{"own dependency", "", map[string]string{
			"index.js":                        `const dep = require('dep'); exports.handler = () => dep();`,
			"node_modules/dep/package.json":   `{"main":"lib/main.js"}`,
			"node_modules/dep/lib/main.js":    `module.exports = () => 'function';`,
			"node_modules/covey/package.json": `{}`,
		}},
		{"own SDK", "", map[string]string{
			"index.mjs":                       `import covey from 'covey'; export const handler = () => covey.mine;`,
			"node_modules/covey/package.json": `{"exports":"./mine.mjs"}`,
			"node_modules/covey/mine.mjs":     `export default { mine: 'function' };`,
		}},
		{"top-level await", "", map[string]string{
			"index.mjs": `const s = await new Promise((r) => setTimeout(r, 5, 'function')); export const handler = async () => s;`,
		}},
		{"dynamic import", "", map[string]string{
			"index.js":  `exports.handler = async () => (await import('./other.mjs')).handler();`,
			"other.mjs": module,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := blank(t, plugins.ConnConfig{})
			i.become(t, plugins.Setup{Code: folder(t, c.files), Handler: c.handler})
			if _, body, err := i.invoke(t, plugins.Call{}); err != nil || string(body) != "function" {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
}

// TestSDKIsFoundBesideTheRuntime has the code beside the runtime, as the sandbox does.
func TestSDKIsFoundBesideTheRuntime(t *testing.T) {
	t.Parallel()
	dir := install(t)
	code := filepath.Join(filepath.Dir(dir), "task")
	files := map[string]string{"index.mjs": `import { current } from 'covey'; export const handler = (event, context) => current() === context;`}
	if err := os.CopyFS(code, os.DirFS(folder(t, files))); err != nil {
		t.Fatal(err)
	}
	i := blankIn(t, interpreter(t), dir, plugins.ConnConfig{})
	i.become(t, plugins.Setup{Code: code})
	if _, body, err := i.invoke(t, plugins.Call{}); err != nil || string(body) != "true" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestFailedStartSaysWhy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, handler, kind, message, stack string
		files                               map[string]string
	}{
		{"no file", "", "HandlerNotFound", `the handler "index.handler" needs one of index.js, index.mjs, index.cjs`, "", js("")},
		{"no export", "", "HandlerNotFound", `index.js exports no function "handler"; it exports other`, "", js("exports.other = 1")},
		{"no form", "index", "BadHandler", `the handler "index" does not have the form`, "", nil},
		{"outside", "../index.handler", "BadHandler", `the handler "../index.handler" does not`, "", nil},
		{"syntax", "", "SyntaxError", "Unexpected token '}'", "index.js:2", js("//\n}")},
		{"module syntax", "", "SyntaxError", "Unexpected token '}'", "index.mjs:2", map[string]string{"index.mjs": "//\n}"}},
		{"syntax of a part", "", "SyntaxError", "Unexpected token '}'", "lib/part.mjs:2", map[string]string{
			"index.mjs": "import './lib/part.mjs'", "lib/part.mjs": "//\n}",
		}},
		{"missing package", "", "MODULE_NOT_FOUND", "Cannot find module 'nowhere'", "index.js:1", js("require('nowhere')")},
		{"missing import", "", "ERR_MODULE_NOT_FOUND", "Cannot find package 'nowhere'", "", map[string]string{"index.mjs": "import 'nowhere'"}},
		{"thrown", "", "TypeError", "no nest", "index.js:1", js("throw new TypeError('no nest')")},
		{"typed", "", "NoNest", "none", "index.js:1", js("throw new (require('covey').CoveyError)('NoNest', 'none')")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.name == "no file" {
				c.files = map[string]string{"other.js": ""}
			}
			i := blank(t, plugins.ConnConfig{})
			i.become(t, plugins.Setup{Code: folder(t, c.files), Handler: c.handler})
			_, _, err := i.invoke(t, plugins.Call{})
			f, ok := errors.AsType[*plugins.InitError](err)
			if !ok || f.Type != c.kind || !strings.HasPrefix(f.Message, c.message) || !strings.Contains(f.Stack, c.stack) ||
				strings.Contains(f.Message+f.Stack, "/runtime/") {
				t.Errorf("got %#v, %v", f, err)
			}
			if status := i.wait(t); status != 1 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

// TestLogLinesKnowTheirCall has two calls at once print in turns, with every means of printing.
func TestLogLinesKnowTheirCall(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const covey = require('covey');
		console.log('at %s', 'start');
		exports.handler = async ({ name }, context) => {
			for (let n = 0; n < 3; n++) await new Promise((r) => setTimeout(r, 2));
			console.log('%s log', name, { a: 1 });
			console.info(name + ' info'); console.debug(name + ' debug'); console.warn(name + ' warn'); console.error(new Error(name));
			console.dir({ name }); console.table([1]); console.assert(false, name); console.trace(name);
			covey.log.error(name + '\nlines', { item: 1n, err: new Error('inside'), request_id: 'mine' });
			context.log.trace(name);
			covey.log.info({ an: 'object' }); covey.log.info(name + ' long ' + 'é"'.repeat(20000), { keep: 'x' });
		};`))
	var wg sync.WaitGroup
	for _, name := range []string{"wren", "robin"} {
		wg.Go(func() {
			call := plugins.Call{Body: []byte(`{"name":"` + name + `"}`)}
			call.RequestID = "id-of-" + name
			if _, _, err := i.invoke(t, call); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_ = i.conn.Close()
	i.wait(t)
	levels := map[string]string{}
	counts := map[string]int{}
	for _, text := range strings.Split(strings.TrimSpace(i.stderr.String()), "\n") {
		l := plugins.ParseLogLine([]byte(text), time.Time{})
		if l.Level == "" || l.Time.IsZero() || len(text) > 16<<10 {
			t.Errorf("not a line of the log, or too long: %d bytes %.200s", len(text), text)
		}
		counts[l.RequestID]++
		levels[l.Message] = l.Level
		if strings.Contains(l.Message, "wren") && l.RequestID != "id-of-wren" || strings.Contains(l.Message, "robin") && l.RequestID != "id-of-robin" {
			t.Errorf("filed under %q: %.100s", l.RequestID, l.Message)
		}
		if strings.HasSuffix(l.Message, "\nlines") {
			var fields struct{ Item, Err string }
			if err := json.Unmarshal(l.Fields, &fields); err != nil || fields.Item != "1" || !strings.Contains(fields.Err, "Error: inside\n") {
				t.Errorf("fields %s", l.Fields)
			}
		}
	}
	for message, level := range map[string]string{
		"at start": "info", "wren log { a: 1 }": "info", "robin info": "info", "wren debug": "debug", "robin warn": "warn",
		"wren\nlines": "error", "robin": "trace", "{ an: 'object' }": "info", "{ name: 'wren' }": "info", "Assertion failed: wren": "warn",
	} {
		if levels[message] != level {
			t.Errorf("%q has level %q, want %q", message, levels[message], level)
		}
	}
	if counts["id-of-wren"] < 12 || counts["id-of-wren"] != counts["id-of-robin"] || counts[""] != 1 {
		t.Errorf("lines by request: %v", counts)
	}
}

// TestAttach lets go-plugin attach to a running instance.
func TestAttach(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const { CoveyError } = require('covey');
		exports.handler = async (event) => {
			if (event.error) throw new CoveyError('NotFound', 'no bird');
			if (event.stream) return (async function* () { yield 'a'; yield 'b'; })();
			return event;
		};`))
	if _, _, err := i.invoke(t, plugins.Call{}); err != nil {
		t.Fatal(err)
	}
	a, err := plugins.Attach(t.Context(), plugins.AttachConfig{Process: i, Stdout: i.stdout, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Ping(); err != nil {
		t.Error(err)
	}
	f, err := a.Function()
	if err != nil {
		t.Fatal(err)
	}
	// More than a window of yamux, both ways.
	long := `"` + strings.Repeat("quail ", 200_000) + `"`
	for range 2 {
		if got, err := f.Invoke([]byte(long)); err != nil || len(got) != len(long)-2 {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	if got, err := f.Invoke([]byte(`{"stream":1}`)); err != nil || string(got) != "ab" {
		t.Errorf("stream: %q, %v", got, err)
	}
	if _, err := f.Invoke([]byte(`{"error":1}`)); err == nil || !strings.Contains(err.Error(), "NotFound: no bird") {
		t.Errorf("got %v, want the function's error", err)
	}
	second, err := a.Function()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.Invoke(nil); err != nil || string(got) != "{}" {
		t.Errorf("second: %q, %v", got, err)
	}
	_, _ = f.Close(), second.Close()
	if err := a.Quit(); err != nil {
		t.Error(err)
	}
	if status := i.wait(t); status != 0 {
		t.Errorf("exit status %d: %s", status, i.stderr.String())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnknownPlugin asks an unchanged go-plugin client for what the process has not.
func TestUnknownPlugin(t *testing.T) {
	t.Parallel()
	i := start(t, js(`exports.handler = () => 1;`))
	line, err := bufio.NewReader(i.stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "1|1|unix|/") {
		t.Fatalf("handshake %q, %v", line, err)
	}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugins.Handshake(), Plugins: plugins.Plugins(), Logger: hclog.NewNullLogger(),
		Reattach: &plugin.ReattachConfig{Protocol: plugin.ProtocolNetRPC, Addr: unixAddr(strings.Split(line, "|")[3]), Pid: i.Pid()},
	})
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.Dispense("unheard of"); err == nil {
		t.Error("dispensed an unknown plugin")
	}
	client.Kill()
	i.wait(t)
}

type unixAddr string

func (a unixAddr) Network() string { return "unix" }
func (a unixAddr) String() string  { return string(a) }

// TestDrainFinishesCalls drains while calls run and one has a large answer to send.
func TestDrainFinishesCalls(t *testing.T) {
	t.Parallel()
	i := start(t, js(`exports.handler = ({ n }) => new Promise((r) => setTimeout(r, 30, Buffer.alloc(n)));`))
	if _, _, err := i.invoke(t, plugins.Call{Body: []byte(`{"n":1}`)}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, n := range []int{1, 6 << 20} {
		wg.Go(func() {
			_, body, err := i.invoke(t, plugins.Call{Body: []byte(`{"n":` + strconv.Itoa(n) + `}`)})
			if err != nil || len(body) != n {
				t.Errorf("got %d bytes, %v", len(body), err)
			}
		})
	}
	eventually(t, func() error {
		if i.conn.InFlight() < 2 {
			return errors.New("the calls have not begun")
		}
		return nil
	})
	if err := i.conn.Drain(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if status := i.wait(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestBlankEnds covers the ends of a process that never became a function.
func TestBlankEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*instance){
		"connection closed": func(i *instance) { _ = i.conn.Close() },
		"drained":           func(i *instance) { _ = i.conn.Drain() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := blank(t, plugins.ConnConfig{})
			end(i)
			if status := i.wait(t); status != 0 || i.stderr.Len() > 0 {
				t.Errorf("exit status %d, said %s", status, i.stderr.String())
			}
		})
	}
}

func TestRefusesToRunByHand(t *testing.T) {
	t.Parallel()
	args := nodejs.Command(interpreter(t), install(t))
	for _, c := range []struct {
		env    []string
		status int
	}{{nil, 2}, {[]string{"COVEY_PLUGIN=1"}, 1}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = c.env
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.status || !bytes.HasPrefix(out, []byte("covey: ")) {
			t.Errorf("env %v: %v, said %s", c.env, err, out)
		}
	}
}

// TestDataPlaneIsNotInherited has the function start a program.
func TestDataPlaneIsNotInherited(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const { execFileSync, spawnSync } = require('child_process');
		const early = spawnSync('ls', ['-l', '/proc/self/fd']).stdout.toString();
		exports.handler = () => early + execFileSync('ls', ['-l', '/proc/self/fd']);`))
	_, body, err := i.invoke(t, plugins.Call{})
	if err != nil || len(body) == 0 || bytes.Contains(body, []byte("socket:[")) && bytes.Contains(body, []byte(" 3 -> socket:[")) {
		t.Errorf("%v\n%s", err, body)
	}
}

// TestEnvironment covers variables that mean something to Node itself.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	i := blank(t, plugins.ConnConfig{})
	lib := folder(t, map[string]string{"shared.js": `exports.value = 'from NODE_PATH';`})
	i.become(t, plugins.Setup{
		Code: folder(t, js(`const { value } = require('shared'), { log } = require('covey');
			exports.handler = () => [value, typeof log.info, process.env.NODE_PATH, new Date(0).getHours(), process.env.EMPTY, process.argv[1]];`)),
		Env: frame.Attributes{{Name: "NODE_PATH", Value: lib}, {Name: "TZ", Value: "Asia/Tokyo"}, {Name: "EMPTY", Value: ""}},
	})
	_, body, err := i.invoke(t, plugins.Call{})
	if err != nil || !strings.HasPrefix(string(body), `["from NODE_PATH","function","`+lib+`",9,"","/`) {
		t.Errorf("got %s, %v", body, err)
	}
}

// TestPreparing fills a cache and serves from it, read-only and empty.
func TestPreparing(t *testing.T) {
	t.Parallel()
	code := folder(t, map[string]string{
		"index.js": `let n = 0; exports.handler = async () => (await import('./part.mjs')).kind + ++n; exports.other = () => { ` + strings.Repeat("n++; ", 1000) + `};`,
		"part.mjs": `import { log } from 'covey'; export const kind = typeof log;`,
	})
	cache := t.TempDir()
	i := blank(t, plugins.ConnConfig{})
	i.become(t, plugins.Setup{Code: code, Cache: cache, Preparing: true})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := i.conn.Ready(ctx); err == nil {
		t.Error("READY came")
	}
	if status := i.wait(t); status != 0 {
		t.Errorf("exit status %d: %s", status, i.stderr.String())
	}
	if err := os.Chmod(cache, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{cache, t.TempDir(), ""} {
		i := blank(t, plugins.ConnConfig{})
		i.become(t, plugins.Setup{Code: code, Cache: dir})
		if _, body, err := i.invoke(t, plugins.Call{}); err != nil || string(body) != "object1" {
			t.Errorf("cache %q: got %q, %v, %s", dir, body, err, i.stderr.String())
		}
	}
}

func TestStatsSayWhatACallTook(t *testing.T) {
	t.Parallel()
	i := start(t, js(`
		const until = Date.now() + 20; while (Date.now() < until);
		exports.handler = () => { const until = process.cpuUsage().user + 30000; while (process.cpuUsage().user < until); };`))
	reply, _, err := i.invoke(t, plugins.Call{})
	if err != nil {
		t.Fatal(err)
	}
	if s := reply.Stats; s.Init < 20*time.Millisecond || s.Run < 25*time.Millisecond || s.CPU < 30*time.Millisecond || s.PeakMemory < 20<<20 {
		t.Errorf("first call: %+v", s)
	}
	if reply, _, err = i.invoke(t, plugins.Call{}); err != nil || reply.Stats.Init != 0 || reply.Stats.CPU > 20*time.Second {
		t.Errorf("second call: %+v, %v", reply, err)
	}
}

// TestHostCalls covers what the conformance suite does not: kinds of bodies, large ones, cancellation, and the stub.
func TestHostCalls(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{})
	i := blank(t, plugins.ConnConfig{Host: func(ctx context.Context, call *plugins.HostCall) (*plugins.HostReply, error) {
		switch call.Target {
		case "echo":
			reply := &plugins.HostReply{Body: bytes.Clone(call.Body)}
			reply.ContentType = call.ContentType
			return reply, nil
		case "refuse":
			return nil, &plugins.RefusedError{Code: "busy", Message: "all busy"}
		}
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}})
	i.become(t, plugins.Setup{Code: folder(t, js(`
		const { invoke } = require('covey');
		const atStart = invoke('echo', 'early');
		exports.handler = async ({ hang }, context) => {
			if (hang) await invoke('hang', null, { signal: AbortSignal.timeout(10) }).catch((err) => err.name);
			const large = Buffer.alloc(5e6, 'x');
			const refused = await invoke('refuse').catch((err) => err.type + ' ' + err.notStarted + ' ' + err.message);
			return [
				await atStart, await context.invoke('echo', { a: 1 }), await invoke('echo', Buffer.from('b')), (await invoke('echo', large)).equals(large),
				(await invoke('echo', { a: 2 }, { raw: true })).toString(), refused,
			];
		};`))})
	_, body, err := i.invoke(t, plugins.Call{Body: []byte(`{"hang":true}`)})
	want := `["early",{"a":1},{"type":"Buffer","data":[98]},true,"{\"a\":2}","Refused true busy: all busy"]`
	if err != nil || string(body) != want {
		t.Errorf("got %s, %v", body, err)
	}
	select {
	case <-cancelled:
	case <-time.After(patience):
		t.Error("the host call that was given up goes on")
	}
}
