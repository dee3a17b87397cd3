package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/covey-dev/covey/node/cli/manifest"
)

// InputError is something wrong with what the developer gave, as opposed to a
// build or a disk that failed. Its text says what to do.
type InputError struct{ Err error }

// Error is the cause's.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

func inputf(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// Source is a function's folder, or one file.
type Source struct {
	// Path is what was given.
	Path string
	// Dir is the folder that Path is or, for a file, lies in.
	Dir string
	// Manifest is what the folder's covey.yaml says, empty without one; Described
	// tells whether there is one.
	Manifest  *manifest.Manifest
	Described bool
}

// Load reads the description of a function.
func Load(path string) (*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, inputf("read %s: %w", path, err)
	}
	s := &Source{Path: path, Dir: path, Manifest: new(manifest.Manifest)}
	if !info.IsDir() {
		s.Dir = filepath.Dir(path)
		return s, nil
	}
	m, err := manifest.Load(filepath.Join(path, manifest.FileName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, &InputError{err}
	}
	s.Manifest, s.Described = m, true
	return s, nil
}

// Options say what the command line adds. What they leave out comes from the
// manifest, and then from the files.
type Options struct {
	Runtime, Handler string
	// Platforms are OS/ARCH pairs to build Go for; none is Linux on this
	// machine's architecture.
	Platforms []string
	// Output gets what a build prints. Required.
	Output io.Writer
	// Dir is a folder for what is built and packed. The caller deletes it.
	Dir string
}

// Code is a function ready to be uploaded.
type Code struct {
	Runtime, Handler string
	Artifacts        []Artifact
}

// Artifact is code for one kind of machine.
type Artifact struct {
	Path string
	// OS and Arch are Go's names, empty for any.
	OS, Arch string
}

// known refuses a runtime that does not exist before anything is built.
func known(runtime string) error {
	if runtime == "" {
		return nil
	}
	if err := manifest.CheckRuntime(runtime); err != nil {
		return &InputError{err}
	}
	return nil
}

// Make builds and packs. Errors that are the developer's to mend are
// *InputError, a failed build excepted.
func (s *Source) Make(ctx context.Context, opts Options) (*Code, error) {
	if err := known(opts.Runtime); err != nil {
		return nil, err
	}
	if err := s.build(ctx, opts.Output); err != nil {
		return nil, err
	}
	t, err := s.target()
	if err != nil {
		return nil, err
	}
	defer t.close()
	code := &Code{Runtime: first(opts.Runtime, s.Manifest.Runtime), Handler: first(opts.Handler, s.Manifest.Handler)}
	if code.Runtime == "" {
		if code.Runtime, err = t.detect(); err != nil {
			return nil, err
		}
	}
	if code.Handler, err = t.handler(code.Runtime, code.Handler); err != nil {
		return nil, err
	}
	if code.Runtime == manifest.Go {
		code.Artifacts, err = t.programs(ctx, opts)
		return code, err
	}
	if len(opts.Platforms) > 0 {
		return nil, inputf("--platform is for building Go; the runtime here is %s", code.Runtime)
	}
	artifact, err := t.pack(filepath.Join(opts.Dir, "code.zip"))
	if err != nil {
		return nil, err
	}
	if code.Runtime == manifest.Wasm {
		artifact.OS, artifact.Arch = "", ""
	}
	code.Artifacts = []Artifact{artifact}
	return code, nil
}

// first returns the first of the texts that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
