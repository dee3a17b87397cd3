package nodejs_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/covey-dev/covey/plugins"
)

// TestGuideRuns runs every program of the guide's part on JavaScript: the handlers in the runtime, and the unit test
// against the first of them.
func TestGuideRuns(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../../docs/functions/nodejs.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```js\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	cases := []struct{ payload, want string }{
		{`{"name": "quail"}`, `{"greeting":"Hello, quail!"}`},
		{`{"from": 3}`, "3\n2\n1\n"},
		{`{"items": ["egg", "nest"]}`, `{"total":8}`},
	}
	if len(programs) != len(cases)+1 {
		t.Fatalf("the guide has %d programs, and this test knows %d", len(programs), len(cases)+1)
	}
	for n, c := range cases {
		file := "index.mjs"
		if strings.Contains(programs[n][1], "require(") {
			file = "index.js"
		}
		i := blank(t, plugins.ConnConfig{Host: func(context.Context, *plugins.HostCall) (*plugins.HostReply, error) {
			reply := &plugins.HostReply{Body: []byte(`{"price":4}`)}
			reply.ContentType = "application/json"
			return reply, nil
		}})
		i.become(t, plugins.Setup{Code: folder(t, map[string]string{file: programs[n][1]})})
		if _, body, err := i.invoke(t, plugins.Call{Body: []byte(c.payload)}); err != nil || string(body) != c.want {
			t.Errorf("program %d: got %q, %v", n, body, err)
		}
	}
	runtime := install(t)
	dir := filepath.Join(filepath.Dir(runtime), "task")
	files := map[string]string{"index.mjs": programs[0][1], "index.test.mjs": programs[len(cases)][1]}
	if err := os.CopyFS(dir, os.DirFS(folder(t, files))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter(t), "--test", "index.test.mjs")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
