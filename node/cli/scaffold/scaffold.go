// Package scaffold makes the folder of a new function: code that works, a
// covey.yaml, a few lines to read, and a test of its own that passes.
//
// The folders lie in templates, one for each runtime, and are part of the
// binary. A name that ends in ".tmpl" loses that ending and is filled in; other
// files are copied.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/cli/manifest"
)

//go:embed all:templates
var templates embed.FS

// Template is what a new function can begin with.
type Template struct {
	// Runtime is its name.
	Runtime string `json:"runtime"`
	// Description is a line for people.
	Description string `json:"description"`
	// Fetch is the command that fetches what the function needs, in its folder; often
	// none.
	Fetch []string `json:"fetch,omitempty"`
	// Test is the command that runs the function's own test there.
	Test []string `json:"test"`
}

// Templates lists all, in the order of the runtimes.
func Templates() []Template {
	return []Template{
		{manifest.Go, "Go with Covey's SDK: JSON in and out, a typed error", []string{"go", "mod", "tidy"}, []string{"go", "test", "./..."}},
		{manifest.Python, "a handler in Python: handler(event, context)", nil, []string{"python3", "-m", "unittest"}},
		{manifest.NodeJS, "an async handler for Node.js: exports.handler", nil, []string{"node", "--test"}},
		{manifest.Lambda, "a handler as AWS Lambda runs it, in Python", nil, []string{"python3", "-m", "unittest"}},
		{manifest.Exec, "a shell script: the event in, the answer out", nil, []string{"sh", "test.sh"}},
		{manifest.Wasm, "a WebAssembly module (WASI), in Go", nil, []string{"go", "test", "./..."}},
	}
}

// Find returns the template of a runtime. The error says what there is.
func Find(runtime string) (Template, error) {
	for _, t := range Templates() {
		if t.Runtime == runtime {
			return t, nil
		}
	}
	return Template{}, manifest.CheckRuntime(runtime)
}

// Function says what the new function is called.
type Function struct {
	Name string
	// App may be empty.
	App string
}

// Ref is how commands name the function.
func (f Function) Ref() string {
	if f.App == "" {
		return f.Name
	}
	return f.App + "/" + f.Name
}

// Package is the name in a form that npm takes.
func (f Function) Package() string { return strings.ToLower(f.Name) }

// ErrExists says that the folder is there already, and not empty.
var ErrExists = errors.New("exists already and is not empty")

// Make writes the folder dir. It overwrites nothing, and what it has begun it
// takes back when it fails.
func (t Template) Make(dir string, f Function) (err error) {
	if err := state.CheckFunctionName(state.FunctionName(f.Name)); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return fmt.Errorf("make folder: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s %w", dir, ErrExists)
	}
	defer func() {
		if err != nil && fresh {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	files, err := fs.Sub(templates, path.Join("templates", t.Runtime))
	if err != nil {
		return fmt.Errorf("read template: %w", err)
	}
	return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, filepath.FromSlash(name))
		switch {
		case err != nil:
			return fmt.Errorf("read template: %w", err)
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		}
		return write(files, name, to, f)
	})
}

// write makes one file. What begins as a program does can be executed.
func write(files fs.FS, name, to string, f Function) error {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("read template: %w", err)
	}
	if plain, ok := strings.CutSuffix(to, ".tmpl"); ok {
		to = plain
		parsed, err := template.New(name).Option("missingkey=error").Parse(string(content))
		if err != nil {
			return fmt.Errorf("read template: %w", err)
		}
		var b strings.Builder
		if err := parsed.Execute(&b, f); err != nil {
			return fmt.Errorf("fill in template: %w", err)
		}
		content = []byte(b.String())
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(string(content), "#!") {
		mode = 0o755
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	return errors.Join(err, out.Close())
}
