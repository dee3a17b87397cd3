package covey_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestGuideBuilds builds every whole program of docs/functions/go.md in a module of its own, as a new
// user's would be, with nothing but this repository and the module cache.
func TestGuideBuilds(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs", "functions", "go.md"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindAllSubmatch(guide, -1)
	if len(programs) < 3 {
		t.Fatalf("found %d programs in the guide, want 3 at least", len(programs))
	}
	dir := t.TempDir()
	module := fmt.Sprintf("module example.com/guide\n\ngo 1.26\n\nrequire github.com/covey-dev/covey v0.0.0\n\nreplace github.com/covey-dev/covey => %s\n", root)
	files := map[string][]byte{"go.mod": []byte(module), "go.sum": sums}
	for i, p := range programs {
		files[filepath.Join(fmt.Sprint("program", i), "main.go")] = p[1]
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "vet", "-mod=mod", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
