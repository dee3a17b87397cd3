package wasm

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	"github.com/covey-dev/covey/plugins/runtime/wasm/checkpoint"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// module is the function's code.
type module struct {
	compiled wazero.CompiledModule
	// polite says that the module asks whether its call was cancelled, and so gets time to end by itself.
	polite bool
}

const (
	// entry is what a command module exports for its host to call.
	entry = "_start"
	// maxListed is how many files an error lists.
	maxListed = 30
)

// find returns the path of the handler's module and the arguments, the module's name first.
func find(code, handler string) (path string, args []string, err error) {
	args, err = stdio.Words(handler)
	if err != nil {
		return "", nil, covey.Errorf("BadHandler", "handler %q: %v", handler, err)
	}
	if len(args) > 0 {
		if !filepath.IsLocal(args[0]) {
			return "", nil, covey.Errorf("BadHandler", "handler %q leads out of the code", handler)
		}
		return filepath.Join(code, args[0]), args, nil
	}
	var modules, all []string
	err = filepath.WalkDir(code, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(code, p)
		all = append(all, rel)
		if strings.HasSuffix(rel, ".wasm") {
			modules = append(modules, rel)
		}
		return err
	})
	switch {
	case err != nil:
		return "", nil, covey.Errorf("NoModule", "read the code: %v", err)
	case len(modules) == 0:
		return "", nil, covey.Errorf("NoModule", "no file of the code ends in .wasm, and no handler names one; the code has: %s", list(all))
	case len(modules) > 1:
		return "", nil, covey.Errorf("NoModule", "the code has several modules (%s); name one as the handler", list(modules))
	}
	return filepath.Join(code, modules[0]), modules, nil
}

func list(names []string) string {
	slices.Sort(names)
	if more := len(names) - maxListed; more > 0 {
		return strings.Join(names[:maxListed], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// load compiles the module in a file of the code and checks that it is a command. While preparing, the module with
// checkpoints goes into the cache too, beside its machine code.
func (e *engine) load(ctx context.Context, path, cache string, fill bool) (*module, error) {
	checked := filepath.Join(cache, fmt.Sprintf("%s.%d", url.PathEscape(path), checkpoint.Version))
	binary, err := os.ReadFile(checked)
	if cache == "" || fill || err != nil {
		if binary, err = insertCheckpoints(path); err != nil {
			return nil, err
		}
	}
	if fill {
		if err := os.WriteFile(checked, binary, 0o644); err != nil {
			return nil, err
		}
	}
	compiled, err := e.compile(ctx, binary)
	if err != nil {
		return nil, covey.Errorf("BadModule", "compile %s: %v", filepath.Base(path), err)
	}
	if compiled.ExportedFunctions()[entry] == nil {
		return nil, covey.Errorf("BadModule", "%s exports no function %s: it is a library, not a command", filepath.Base(path), entry)
	}
	for _, f := range compiled.ImportedFunctions() {
		if from, name, _ := f.Import(); e.runtime.Module(from) == nil {
			return nil, covey.Errorf("BadModule", "%s imports %s.%s, and there is no module %s", filepath.Base(path), from, name, from)
		}
	}
	return &module{compiled: compiled, polite: imports(compiled.ImportedFunctions(), "cancelled")}, nil
}

// insertCheckpoints reads a module, and makes it one that can be ended.
func insertCheckpoints(path string) ([]byte, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, covey.Errorf("NoModule", "%v", err)
	}
	checked, err := checkpoint.Insert(binary, hostModule, checkpointName)
	if err != nil {
		return nil, covey.Errorf("BadModule", "read %s: %v", filepath.Base(path), err)
	}
	return checked, nil
}

func imports(functions []api.FunctionDefinition, name string) bool {
	return slices.ContainsFunc(functions, func(f api.FunctionDefinition) bool {
		from, imported, _ := f.Import()
		return from == hostModule && imported == name
	})
}
