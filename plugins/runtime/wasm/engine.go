package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// engine is wazero with everything in it that does not depend on the function.
//
// wazero fixes its cache's folder when the engine is made, which is before anybody knows for which function. So the
// folder that it keeps its files in is a link, and useCache turns it.
type engine struct {
	runtime wazero.Runtime
	link    string // what wazero takes for its folder
	name    string // of that folder: it tells wazero's version and the machine
}

// newEngine makes the engine and the modules that functions import. It keeps a folder in private.
func newEngine(ctx context.Context, private string) (*engine, error) {
	dir, err := os.MkdirTemp(private, "wazero")
	if err != nil {
		return nil, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) != 1 {
		return nil, fmt.Errorf("the cache %s has %d folders, not one", dir, len(entries))
	}
	e := &engine{link: filepath.Join(dir, entries[0].Name()), name: entries[0].Name()}
	config := wazero.NewRuntimeConfig().WithCompilationCache(cache)
	e.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, e.runtime); err != nil {
		return nil, err
	}
	return e, exportHost(ctx, e.runtime)
}

// forget takes the cache away: what is compiled from now on is kept in memory alone.
func (e *engine) forget() error { return os.RemoveAll(e.link) }

// useCache makes the engine keep compiled modules in cache, and find them there. Without a cache it keeps none.
func (e *engine) useCache(cache string, fill bool) error {
	if err := e.forget(); err != nil {
		return err
	}
	if cache == "" {
		return nil
	}
	target := filepath.Join(cache, e.name)
	if fill {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink(target, e.link)
}

// publishCache lets every user read what was compiled: instances run as others than the one that prepared.
func (e *engine) publishCache(cache string) error {
	return filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}

// compile returns the machine code of a module, from the cache if it is there.
func (e *engine) compile(ctx context.Context, binary []byte) (compiled wazero.CompiledModule, err error) {
	defer func() {
		// Some modules that are not valid make wazero's validator panic instead of saying so.
		if v := recover(); v != nil {
			err = fmt.Errorf("the module is not valid: %v", v)
		}
	}()
	compiled, err = e.runtime.CompileModule(ctx, binary)
	if err == nil {
		return compiled, nil
	}
	// It may be the cache that is wrong, damaged or of another version, and not the module. Without a cache, compiling
	// ends with the error that nothing could be written; the engine has the code in memory by then.
	if err := e.forget(); err != nil {
		return nil, err
	}
	compiled, err = e.runtime.CompileModule(ctx, binary)
	var path *fs.PathError
	if errors.As(err, &path) {
		compiled, err = e.runtime.CompileModule(ctx, binary)
	}
	return compiled, err
}
