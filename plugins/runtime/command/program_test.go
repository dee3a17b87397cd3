package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// code makes a folder with files; names that end in * are executable.
func code(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if n, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = n, 0o755
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindProgram(t *testing.T) {
	t.Parallel()
	one := map[string]string{"bin/tool*": "", "README": ""}
	for _, c := range []struct {
		name    string
		files   map[string]string
		handler string
		want    []string // arguments; the first is the path in the code, or absolute
		err     string
	}{
		{name: "the only executable", files: one, want: []string{"bin/tool"}},
		{name: "by name, with arguments", files: one, handler: "bin/tool -a 'b c'", want: []string{"bin/tool", "-a", "b c"}},
		{name: "of the machine", files: one, handler: "/bin/sh -c exit", want: []string{"/bin/sh", "-c", "exit"}},
		{name: "several executables", files: map[string]string{"a*": "", "b*": ""}, err: "several files of the code are executable (a, b)"},
		{name: "none", files: map[string]string{"a": "", "b/c": ""}, err: "the code has: a, b/c"},
		{name: "empty code", err: "the code is empty"},
		{name: "not executable", files: one, handler: "README", err: "README is not executable"},
		{name: "a folder", files: one, handler: "bin", err: "is not executable"},
		{name: "missing", files: one, handler: "tool", err: "the code has: README, bin/tool"},
		{name: "outside", files: one, handler: "../tool", err: "leads out of the code"},
		{name: "quote", files: one, handler: "'tool", err: "a quote is not closed"},
	} {
		dir := code(t, c.files)
		got, err := find(dir, c.handler)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %q in it", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		path := c.want[0]
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if got.path != path || got.dir != dir || !slices.Equal(got.args, c.want) {
			t.Errorf("%s: got %+v, want %s with %q", c.name, got, path, c.want)
		}
	}
}
