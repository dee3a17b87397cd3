package scaffold

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/cli/source"
)

func TestThereIsATemplateForEachRuntime(t *testing.T) {
	t.Parallel()
	var names []string
	for _, tmpl := range Templates() {
		names = append(names, tmpl.Runtime)
	}
	if !slices.Equal(names, manifest.Runtimes()) {
		t.Errorf("templates for %v", names)
	}
}

// need skips on a machine without a program, but not where all must run.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}

// workspace lets a new module find the SDK in this repository, where a user's
// fetches it.
func workspace(t *testing.T, dir string) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "go.work")
	content := "go 1.26.0\n\nuse (\n\t" + dir + "\n\t" + root + "\n)\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestEachTemplatePassesItsOwnTestAndCanBeDeployed(t *testing.T) {
	t.Parallel()
	for _, tmpl := range Templates() {
		t.Run(tmpl.Runtime, func(t *testing.T) {
			t.Parallel()
			need(t, tmpl.Test[0])
			dir := filepath.Join(t.TempDir(), "made")
			if err := tmpl.Make(dir, Function{Name: "Try-it", App: "birds"}); err != nil {
				t.Fatal(err)
			}
			environment := append(os.Environ(), "GOWORK=off", "PYTHONDONTWRITEBYTECODE=1")
			if tmpl.Runtime == manifest.Go {
				environment = append(environment, "GOWORK="+workspace(t, dir))
			}
			cmd := exec.CommandContext(t.Context(), tmpl.Test[0], tmpl.Test[1:]...)
			cmd.Dir, cmd.Env = dir, environment
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", tmpl.Test, err, out)
			}
			checkDeployable(t, tmpl, dir, environment)
		})
	}
}

// checkDeployable makes the code of a new function as a deploy does.
func checkDeployable(t *testing.T, tmpl Template, dir string, environment []string) {
	t.Helper()
	src, err := source.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m := src.Manifest; m.Name != "Try-it" || m.App != "birds" || m.Runtime != tmpl.Runtime {
		t.Errorf("covey.yaml says %+v", m)
	}
	if tmpl.Runtime == manifest.Go {
		// The build takes its environment from this process, which other tests
		// share: the workspace cannot be given to it.
		cmd := exec.CommandContext(t.Context(), "go", "vet", ".")
		cmd.Dir, cmd.Env = dir, environment
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("vet: %v\n%s", err, out)
		}
		return
	}
	code, err := src.Make(t.Context(), source.Options{Dir: t.TempDir(), Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if code.Runtime != tmpl.Runtime || len(code.Artifacts) != 1 || code.Artifacts[0].OS != "" {
		t.Errorf("code %+v", code)
	}
}

func TestMakeOverwritesNothing(t *testing.T) {
	t.Parallel()
	tmpl, err := Find(manifest.Exec)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // there and empty
	if err := tmpl.Make(dir, Function{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := tmpl.Make(dir, Function{Name: "a"}); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}
	other := filepath.Join(t.TempDir(), "x")
	if err := tmpl.Make(other, Function{Name: "no good name"}); err == nil {
		t.Error("a wrong name passes")
	}
	if _, err := os.Stat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	if _, err := Find("pyton"); err == nil {
		t.Error("a runtime that does not exist is found")
	}
}
