package source

import (
	"debug/buildinfo"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/node/cli/manifest"
)

// modulePath is the module whose SDK makes a Go program a function.
const modulePath = "github.com/covey-dev/covey"

// choice is a runtime that the files speak for.
type choice struct{ runtime, because string }

// detect finds the runtime by the files. Where they speak for several, the
// developer chooses.
func (t *target) detect() (string, error) {
	var choices []choice
	switch t.kind {
	case zipped:
		return manifest.Lambda, nil // what people have zips for
	case single:
		choices = t.detectFile()
	default:
		choices = t.detectFolder()
	}
	switch len(choices) {
	case 0:
		hint := ""
		if t.hasGo() {
			hint = " (there are Go files: is it package main?)"
		}
		return "", inputf("%s holds no function that can be recognised%s: say what it is with --runtime (%s), or as runtime in %s",
			t.path, hint, strings.Join(manifest.Runtimes(), ", "), manifest.FileName)
	case 1:
		return choices[0].runtime, nil
	}
	var reasons []string
	for _, c := range choices {
		reasons = append(reasons, fmt.Sprintf("%s (%s)", c.runtime, c.because))
	}
	return "", inputf("%s can be %s: choose with --runtime, or as runtime in %s",
		t.path, strings.Join(reasons, " or "), manifest.FileName)
}

// detectFile looks at one file.
func (t *target) detectFile() []choice {
	name := t.names[0].Name
	one := func(runtime string) []choice { return []choice{{runtime, name}} }
	switch filepath.Ext(name) {
	case ".go":
		return one(manifest.Go)
	case ".wasm":
		return one(manifest.Wasm)
	case ".py":
		return one(manifest.Python)
	case ".js", ".mjs", ".cjs":
		return one(manifest.NodeJS)
	}
	switch isELF := t.isELF(name); {
	case isELF && name == bootstrap:
		return one(manifest.Lambda)
	case isELF && usesSDK(t.path):
		return one(manifest.Go)
	case isELF || t.names[0].Exec:
		return one(manifest.Exec)
	}
	return nil
}

// bootstrap is the program of a Lambda package for the provided runtimes.
const bootstrap = "bootstrap"

// detectFolder looks at the top of a folder. That a file may be executed says
// little, so it counts only where nothing else speaks.
func (t *target) detectFolder() []choice {
	var choices []choice
	add := func(runtime, because string) {
		if because != "" {
			choices = append(choices, choice{runtime, because})
		}
	}
	topmost := func(endings ...string) string {
		if all := t.matching(func(f archive.File) bool { return top(f, endings...) }); len(all) > 0 {
			return all[0]
		}
		return ""
	}
	add(manifest.Go, t.goMain())
	add(manifest.Python, topmost(".py"))
	for _, name := range []string{"package.json", "index.js", "index.mjs", "index.cjs"} {
		if t.has(name) {
			add(manifest.NodeJS, name)
			break
		}
	}
	if t.has(bootstrap) {
		add(manifest.Lambda, bootstrap)
	}
	add(manifest.Wasm, topmost(".wasm"))
	if len(choices) == 0 {
		if programs := t.matching(func(f archive.File) bool { return f.Exec }); len(programs) > 0 {
			add(manifest.Exec, programs[0])
		}
	}
	return choices
}

// hasGo reports whether there are Go files at the top.
func (t *target) hasGo() bool {
	return len(t.matching(func(f archive.File) bool { return top(f, ".go") })) > 0
}

// goMain returns a file at the top that belongs to package main.
func (t *target) goMain() string {
	for _, name := range t.matching(func(f archive.File) bool { return top(f, ".go") }) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := fs.ReadFile(t.files, path.Clean(name))
		if err != nil {
			continue // it shows when the code is packed
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.PackageClauseOnly)
		if err == nil && file.Name.Name == "main" {
			return name
		}
	}
	return ""
}

// usesSDK reports whether a program is Go with our SDK in it. Any other program
// speaks no frames, and is for the runtime exec.
func usesSDK(path string) bool {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return false
	}
	if info.Main.Path == modulePath {
		return true
	}
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			return true
		}
	}
	return false
}
