package nodejs_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/runtime/nodejs"
)

// TestProgram runs the tests of the program's own parts, which are in JavaScript.
func TestProgram(t *testing.T) {
	t.Parallel()
	path := interpreter(t)
	dir := filepath.Join(filepath.Dir(install(t)), "test")
	if err := os.CopyFS(dir, os.DirFS("testdata/js")); err != nil {
		t.Fatal(err)
	}
	golden, err := json.Marshal(goldens(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "golden.json"), golden, 0o644); err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob(filepath.Join(dir, "*.test.js"))
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	cmd := exec.Command(path, append([]string{"--test"}, tests...)...)
	cmd.Env = append(os.Environ(), "NODE_OPTIONS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// goldens are messages as this module's own encoders write them.
func goldens(t *testing.T) map[string]string {
	t.Helper()
	messages := map[string]frame.Appender{
		"setup": &frame.Setup{
			App: "default", Function: "f", Version: 7, Handler: "src/app.handler", Code: "/var/task", Cache: "/var/cache/covey",
			Memory: 256 << 20, Timeout: 30 * time.Second, Concurrency: 16, Preparing: true,
			Env: frame.Attributes{{Name: "A", Value: "ü"}, {Name: "B", Value: ""}},
		},
		"invoke": &frame.Invoke{
			RequestID: "r-1", Attempt: 2, Remaining: 1500*time.Millisecond + time.Microsecond, App: "default", Function: "vögel", Version: 300,
			Node: "node-7", ContentType: "application/json", Trace: "00-4bf9", Depth: 3,
			Attributes: frame.Attributes{{Name: "http.method", Value: "PUT"}, {Name: "http.method", Value: "GET"}},
		},
		"greeting": &frame.Greeting{
			Least: 1, Greatest: 2, Window: 1 << 20, MaxBody: 1 << 33, Agent: "test/1",
			Attributes: frame.Attributes{{Name: frame.LanesAttribute, Value: frame.NoLanes}},
		},
		"failure":    &frame.Failure{Kind: frame.KindUnhandled, Type: "NotFound", Message: "kein Vogel 🐦", Stack: "a\nb"},
		"refusal":    &frame.Refusal{Code: frame.RefusedBusy, Message: "all busy", RetryAfter: 250 * time.Millisecond},
		"ownRefusal": &frame.Refusal{Code: frame.RefusedDraining, Message: "no more"},
		"hostResult": &frame.HostResult{ContentType: "text/plain", Attributes: frame.Attributes{{Name: "k", Value: "v"}}},
		"result": &frame.Result{
			ContentType: "text/html; charset=utf-8", Status: 404, Attributes: frame.Attributes{{Name: "Größe", Value: strings.Repeat("x", 100)}},
			Stats: frame.Stats{Run: 1500 * time.Microsecond, Init: 20*time.Millisecond + 100*time.Nanosecond, PeakMemory: 1 << 32},
		},
		"hostRequest": &frame.HostRequest{
			RequestID: "r-1", Op: "invoke", Target: "other:live", ContentType: "text/plain", Remaining: 12250 * time.Microsecond,
		},
	}
	golden := make(map[string]string)
	for name, m := range messages {
		golden[name] = hex.EncodeToString(m.AppendTo(nil))
	}
	golden["gobRequests"] = gobRequests(t)
	return golden
}

// gobRequests are what a client of net/rpc sends.
func gobRequests(t *testing.T) string {
	t.Helper()
	type Request struct {
		ServiceMethod string
		Seq           uint64
	}
	var b bytes.Buffer
	encoder := gob.NewEncoder(&b)
	for _, v := range []any{
		Request{"Control.Ping", 0}, true, Request{"Dispenser.Dispense", 300}, "function", Request{"Plugin.Invoke", 1 << 40}, bytes.Repeat([]byte("x"), 1000),
	} {
		if err := encoder.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(b.Bytes())
}

// TestGobAnswers reads with encoding/gob what the program writes.
func TestGobAnswers(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(interpreter(t), "-e", `
		const { Writer } = require('./gob.js'), w = new Writer(), long = Buffer.alloc(1000, 'x');
		for (const [method, seq, error, reply] of [['Control.Ping', 0, '', undefined], ['Dispense', 300, '', 1 << 20], ['Invoke', 2 ** 40, 'broken', long]])
			process.stdout.write(Buffer.concat([w.response(method, seq, error), w.reply(reply)]));`)
	cmd.Dir = install(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type Response struct {
		ServiceMethod string
		Seq           uint64
		Error         string
	}
	var headers [3]Response
	var empty struct{}
	var id uint32
	var long []byte
	decoder := gob.NewDecoder(bytes.NewReader(out))
	for _, v := range []any{&headers[0], &empty, &headers[1], &id, &headers[2], &long} {
		if err := decoder.Decode(v); err != nil {
			t.Fatalf("%T: %v", v, err)
		}
	}
	if want := [3]Response{{"Control.Ping", 0, ""}, {"Dispense", 300, ""}, {"Invoke", 1 << 40, "broken"}}; headers != want || id != 1<<20 || len(long) != 1000 {
		t.Errorf("got %+v, %d, %d bytes", headers, id, len(long))
	}
}

func TestProbeTellsVersions(t *testing.T) {
	t.Parallel()
	probe := nodejs.Probe(interpreter(t))
	out, err := exec.Command(probe[0], probe[1:]...).Output()
	if err != nil || !strings.HasPrefix(string(out), "v") {
		t.Errorf("%q, %v", out, err)
	}
}
