package source

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/node/cli/manifest"
)

// target is what is packed: a folder, an archive, or one file. Detection, handlers
// and machines look at its files the same way, whichever it is.
type target struct {
	path string
	// files is the content, with path names within it.
	files fs.FS
	// names are the files that are packed.
	names []archive.File
	kind  kind
	opts  archive.Options
	// unfit says why the folder cannot be packed, which does not matter to Go.
	unfit error
	close func()
}

type kind int

const (
	folder kind = iota
	zipped
	single // a program, a module, a script: packed alone
)

// target opens what is to be deployed, after the build has made it.
func (s *Source) target() (*target, error) {
	at := s.Path
	if s.Manifest.Code != "" {
		at = filepath.Join(s.Dir, filepath.FromSlash(s.Manifest.Code))
	}
	info, err := os.Stat(at)
	if err != nil {
		return nil, inputf("read code: %w", err)
	}
	t := &target{path: at, close: func() {}}
	switch {
	case info.IsDir():
		err = t.openFolder(s.Manifest)
	case filepath.Ext(at) == ".zip":
		err = t.openZip(info.Size())
	default:
		t.kind, t.files = single, os.DirFS(filepath.Dir(at))
		t.names = []archive.File{{Name: filepath.Base(at), Exec: info.Mode()&0o111 != 0, Size: info.Size()}}
		if info.Size() > archive.MaxBytes {
			err = inputf("%s is larger than the %d MiB that a function may have", at, archive.MaxBytes>>20)
		}
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *target) openFolder(m *manifest.Manifest) error {
	root, err := os.OpenRoot(t.path)
	if err != nil {
		return fmt.Errorf("read code: %w", err)
	}
	t.close = func() { _ = root.Close() } // read only: nothing can be lost
	t.kind, t.files = folder, root.FS()
	// The description is not code: a changed timeout must not change the digest.
	t.opts = archive.Options{Include: m.Include, Exclude: append([]string{"/" + manifest.FileName}, m.Exclude...)}
	t.names, err = archive.List(t.files, t.opts)
	t.unfit = t.blame(err)
	return nil
}

// openZip checks an archive that somebody else made as the nodes will.
func (t *target) openZip(size int64) error {
	f, err := os.Open(t.path)
	if err != nil {
		return fmt.Errorf("read code: %w", err)
	}
	t.close = func() { _ = f.Close() } // read only: nothing can be lost
	if err := archive.Check(f, size, archive.DefaultLimits()); err != nil {
		return t.blame(err)
	}
	zr, err := zip.NewReader(f, size)
	if err != nil {
		return t.blame(err)
	}
	t.kind, t.files = zipped, zr
	for _, entry := range zr.File {
		mode := entry.Mode()
		file := archive.File{Name: path.Clean(entry.Name), Exec: mode&0o111 != 0}
		switch mode.Type() {
		case 0:
			t.names = append(t.names, file)
		case fs.ModeSymlink:
			file.Exec, file.Link = false, "somewhere" // Check saw that it stays inside
			t.names = append(t.names, file)
		}
	}
	return nil
}

// blame marks an error about the code's files as the developer's.
func (t *target) blame(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, archive.ErrTooLarge) {
		return inputf("%s: %w (leave files out with .coveyignore)", t.path, err)
	}
	return inputf("%s: %w", t.path, err)
}

// has reports whether one of the files is packed.
func (t *target) has(names ...string) bool {
	return slices.ContainsFunc(t.names, func(f archive.File) bool { return slices.Contains(names, f.Name) })
}

// matching lists the packed files that f picks.
func (t *target) matching(f func(archive.File) bool) []string {
	var all []string
	for _, file := range t.names {
		if f(file) {
			all = append(all, file.Name)
		}
	}
	return all
}

// top tells whether a file lies at the top, with one of the endings.
func top(f archive.File, endings ...string) bool {
	return !strings.Contains(f.Name, "/") && slices.Contains(endings, filepath.Ext(f.Name))
}

// pack writes the archive to upload, or takes the one that is there as it is: a
// package made for AWS Lambda runs without a changed byte.
func (t *target) pack(out string) (Artifact, error) {
	a := Artifact{Path: out}
	if t.unfit != nil {
		return a, t.unfit
	}
	var err error
	if a.OS, a.Arch, err = t.machine(); err != nil {
		return a, err
	}
	if len(t.names) == 0 {
		return a, inputf("%s: there is nothing in it", t.path)
	}
	if t.kind == zipped {
		a.Path = t.path
		return a, nil
	}
	f, err := os.Create(out)
	if err != nil {
		return a, fmt.Errorf("pack code: %w", err)
	}
	if t.kind == folder {
		err = archive.Pack(f, t.files, t.opts)
	} else {
		err = t.packOne(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return a, fmt.Errorf("pack %s: %w", t.path, err)
	}
	return a, nil
}

func (t *target) packOne(w io.Writer) error {
	in, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer in.Close() // read only: nothing can be lost
	return archive.PackFile(w, t.names[0].Name, in, t.names[0].Exec)
}
