package command

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// executable is what a handler names.
type executable struct {
	path string
	args []string // the program's own name first
	dir  string
}

// maxListed is how many files an error lists.
const maxListed = 30

// find looks for the handler's program in the code.
func find(code, handler string) (*executable, error) {
	words, err := stdio.Words(handler)
	if err != nil {
		return nil, covey.Errorf("BadHandler", "handler %q: %v", handler, err)
	}
	if len(words) == 0 {
		only, err := onlyExecutable(code)
		if err != nil {
			return nil, err
		}
		words = []string{only}
	}
	path := words[0]
	if !filepath.IsAbs(path) {
		if !filepath.IsLocal(path) {
			return nil, covey.Errorf("BadHandler", "handler %q leads out of the code", handler)
		}
		path = filepath.Join(code, path)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, covey.Errorf("NoProgram", "handler %q: %v; %s", handler, err, listing(code))
	case info.IsDir() || info.Mode()&0o111 == 0:
		return nil, covey.Errorf("NoProgram", "handler %q: %s is not executable (mode %v); %s", handler, path, info.Mode(), listing(code))
	}
	return &executable{path: path, args: words, dir: code}, nil
}

// onlyExecutable returns the one file of the code that can be run.
func onlyExecutable(code string) (string, error) {
	var found []string
	err := walk(code, func(path string, d fs.DirEntry) {
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			found = append(found, path)
		}
	})
	switch {
	case err != nil:
		return "", covey.Errorf("NoProgram", "read the code: %v", err)
	case len(found) == 0:
		return "", covey.Errorf("NoProgram", "no file of the code is executable, and no handler names a program; %s", listing(code))
	case len(found) > 1:
		return "", covey.Errorf("NoProgram", "several files of the code are executable (%s); name one as the handler", list(found))
	}
	return found[0], nil
}

// walk calls f for each file below code, with its path in code.
func walk(code string, f func(path string, d fs.DirEntry)) error {
	return filepath.WalkDir(code, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(code, path)
		if err == nil {
			f(rel, d)
		}
		return err
	})
}

// listing says what there is in the code.
func listing(code string) string {
	var all []string
	if err := walk(code, func(path string, _ fs.DirEntry) { all = append(all, path) }); err != nil {
		return "the code cannot be read: " + err.Error()
	}
	if len(all) == 0 {
		return "the code is empty"
	}
	return "the code has: " + list(all)
}

func list(names []string) string {
	slices.Sort(names)
	if more := len(names) - maxListed; more > 0 {
		return strings.Join(names[:maxListed], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
