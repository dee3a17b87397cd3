package python_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
)

// golden are messages as plugins/frame encodes them; tests/test_wire.py knows what is in them.
func golden() map[string][]byte {
	appended := func(m frame.Appender) []byte { return m.AppendTo(nil) }
	return map[string][]byte{
		"setup": appended(&frame.Setup{
			App: "birds", Function: "quail", Version: 300, Handler: "main.handler", Code: "/var/task", Cache: "/var/cache/covey",
			Memory: 256 << 20, Timeout: 30 * time.Second, Concurrency: 16, Preparing: true,
			Env: frame.Attributes{{Name: "NEST", Value: "twigs = moss"}, {Name: "ÜNI", Value: "\U0001f426"}},
		}),
		"invoke": appended(&frame.Invoke{
			RequestID: "01J" + strings.Repeat("x", 200), Attempt: 3, Remaining: 1500 * time.Millisecond, App: "birds", Function: "quail",
			Version: 1 << 40, Node: "node-7", ContentType: "text/csv", Trace: "00-4bf9-00f0-01", Depth: 4,
			Attributes: frame.Attributes{{Name: "http.method", Value: "PUT"}, {Name: "ünï", Value: "é"}},
		}),
		"greeting": appended(&frame.Greeting{Least: 1, Greatest: 1, Window: 1 << 20, MaxBody: 1 << 30, Agent: "covey-runtime-python/1"}),
		"result": appended(&frame.Result{
			ContentType: "text/html", Status: 201, Attributes: frame.Attributes{{Name: "a", Value: "ü"}},
			Stats: frame.Stats{Run: 1500 * time.Microsecond, CPU: (1 << 33) * time.Microsecond, PeakMemory: 64 << 20},
		}),
		"empty result":  appended(&frame.Result{}),
		"failure":       appended(&frame.Failure{Kind: frame.KindInit, Type: "NoNest", Message: "no nest", Stack: "line 1\nline 2"}),
		"long failure":  appended(&frame.Failure{Type: "T", Message: strings.Repeat("x", 100000)}),
		"refusal":       appended(&frame.Refusal{Code: "busy", Message: "too many"}),
		"refusal later": appended(&frame.Refusal{Code: "busy", Message: "too many", RetryAfter: 2500 * time.Millisecond}),
		"host request": appended(&frame.HostRequest{
			RequestID: "id", Op: "invoke", Target: "other:live", ContentType: "application/json", Remaining: 1100 * time.Nanosecond,
		}),
		"host result": appended(&frame.HostResult{ContentType: "text/html", Attributes: frame.Attributes{{Name: "a", Value: "b"}}}),
		"header":      frame.Header{Length: 70000, Type: frame.ResultReply, Flags: frame.FlagMore | frame.FlagAnswer, Head: 300, ID: 1 << 50}.AppendTo(nil),
	}
}

// TestUnits runs the tests that are written in Python, against the files as a node unpacks them.
func TestUnits(t *testing.T) {
	t.Parallel()
	dir := install(t)
	messages := make(map[string]string)
	for name, m := range golden() {
		messages[name] = hex.EncodeToString(m)
	}
	text, err := json.Marshal(messages)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "golden.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Abs("tests")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, "-S", "-B", "-W", "error", "-m", "unittest", "discover", "-s", tests)
	cmd.Dir = filepath.Join(dir, "lib") // Where -m looks for modules first.
	cmd.Env = []string{"COVEY_GOLDEN=" + path}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "Ran 0 tests") {
		t.Errorf("%v\n%s", err, out)
	}
}
