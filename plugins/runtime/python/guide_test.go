package python_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/covey-dev/covey/plugins"
)

// TestGuideRuns runs every program of the guide's part on Python: the handlers in the runtime, and the unit test
// against the first of them.
func TestGuideRuns(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../../docs/functions/python.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```python\n(.*?)```").FindAllSubmatch(guide, -1)
	cases := []struct{ payload, want string }{
		{`{"name": "quail"}`, `{"greeting":"Hello, quail!"}`},
		{`{"from": 3}`, "3\n2\n1\n"},
		{`{"items": ["egg", "nest"]}`, `{"total":8}`},
	}
	if len(programs) != len(cases)+1 {
		t.Fatalf("the guide has %d programs, and this test knows %d", len(programs), len(cases)+1)
	}
	price := func(context.Context, *plugins.HostCall) (*plugins.HostReply, error) {
		return &plugins.HostReply{Body: []byte(`{"price": 4}`)}, nil
	}
	folders := make([]string, len(cases))
	for i, c := range cases {
		folders[i] = t.TempDir()
		if err := os.WriteFile(filepath.Join(folders[i], "main.py"), programs[i][1], 0o644); err != nil {
			t.Fatal(err)
		}
		f := become(t, "", price, func(s *plugins.Setup) { s.Code = folders[i] })
		want(t, f.must(c.payload), c.want)
	}
	if err := os.WriteFile(filepath.Join(folders[0], "test_main.py"), programs[len(cases)][1], 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, "-B", "-m", "unittest", "-v")
	cmd.Dir = folders[0]
	cmd.Env = []string{"PYTHONPATH=" + filepath.Join(install(t), "lib")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
