package archive

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
)

// level is deflate's. Changing it changes the digest of everything.
const level = 6

// epoch is the time of every file: the first that a zip can say.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Options say what of a folder is packed. The zero value takes everything but
// what is always left out.
type Options struct {
	// Include are patterns of what to take; none takes everything. A folder that
	// matches is taken with all that is in it.
	Include []string
	// Exclude are patterns of what to leave out, after those that always hold and
	// those of the folder's own ignore file. A pattern with '!' takes back.
	Exclude []string
	// Limits default to DefaultLimits.
	Limits Limits
}

// File is one file or symbolic link of a folder.
type File struct {
	// Name is the path within the folder.
	Name string
	// Exec tells that somebody may execute it.
	Exec bool
	// Link is the target of a symbolic link, and empty for a file.
	Link string
	Size int64
}

// Pack writes the folder as a zip. Folders without files are not kept. Symbolic
// links stay links and must lead to somewhere within the folder. The limits are
// checked before the first byte is written.
func Pack(w io.Writer, root fs.FS, opts Options) error {
	files, err := List(root, opts)
	if err != nil {
		return err
	}
	zw := newWriter(w)
	for _, e := range files {
		if err := zw.add(root, e); err != nil {
			return fmt.Errorf("pack %s: %w", e.Name, err)
		}
	}
	return zw.Close()
}

// PackFile writes a zip of one file with the given name.
func PackFile(w io.Writer, name string, content io.Reader, exec bool) error {
	zw := newWriter(w)
	err := zw.write(File{Name: name, Exec: exec}, content)
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return zw.Close()
}

// List returns what Pack would pack, by name, or why it would not.
func List(root fs.FS, opts Options) ([]File, error) {
	ignore, include, err := opts.patterns(root)
	if err != nil {
		return nil, err
	}
	var files []File
	links := map[string]string{}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case ignore.ignored(name, d.IsDir()):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir(), len(include) > 0 && !include.covers(name):
			return nil
		}
		e, err := describe(root, name, d)
		if err != nil {
			return err
		}
		if e.Link != "" {
			links[name] = e.Link
		}
		files = append(files, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read folder: %w", err)
	}
	var wrong []error
	for _, e := range files {
		if e.Link != "" {
			wrong = append(wrong, checkLink(links, e.Name))
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	wrong = append(wrong, opts.check(files))
	return files, errors.Join(wrong...)
}

// patterns reads the options and the folder's own ignore file.
func (o Options) patterns(root fs.FS) (ignore, include patterns, err error) {
	lines := slices.Clone(alwaysIgnored)
	text, err := fs.ReadFile(root, IgnoreFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read %s: %w", IgnoreFile, err)
	}
	lines = append(lines, strings.Split(string(text), "\n")...)
	if ignore, err = parsePatterns(append(lines, o.Exclude...)); err != nil {
		return nil, nil, fmt.Errorf("what to leave out: %w", err)
	}
	if include, err = parsePatterns(o.Include); err != nil {
		return nil, nil, fmt.Errorf("what to include: %w", err)
	}
	return ignore, include, nil
}

// describe looks at one file.
func describe(root fs.FS, name string, d fs.DirEntry) (File, error) {
	e := File{Name: name}
	if cleaned, err := clean(name); err != nil || cleaned != name {
		return e, errors.Join(err)
	}
	info, err := d.Info()
	if err != nil {
		return e, err
	}
	switch mode := info.Mode(); mode.Type() {
	case 0:
		e.Size, e.Exec = info.Size(), mode&0o111 != 0
		return e, nil
	case fs.ModeSymlink:
		e.Link, err = fs.ReadLink(root, name)
		return e, err
	default:
		return e, refuse(name, "is neither a file nor a folder nor a link")
	}
}

// check holds a folder against the limits, and names what makes it large.
func (o Options) check(files []File) error {
	limits := o.Limits
	if limits == (Limits{}) {
		limits = DefaultLimits()
	}
	var total int64
	parts := map[string]int64{}
	for _, e := range files {
		total += e.Size
		parts[part(e.Name)] += e.Size
	}
	err := limits.check(len(files), total)
	if err == nil {
		return nil
	}
	names := make([]string, 0, len(parts))
	for name := range parts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if parts[a] != parts[b] {
			return int(min(max(parts[b]-parts[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	const most = 3
	for i, name := range names[:min(len(names), most)] {
		names[i] = name + " " + mebibytes(parts[name])
	}
	return fmt.Errorf("the folder has %w; the largest of it: %s", err, strings.Join(names[:min(len(names), most)], ", "))
}

// part is what a person would delete: the first two components of a path.
func part(name string) string {
	parts := strings.SplitN(name, "/", 3)
	return path.Join(parts[:min(len(parts), 2)]...)
}

// writer writes zips that depend on nothing but their content.
type writer struct {
	*zip.Writer
	buffer []byte
}

func newWriter(w io.Writer) *writer {
	zw := &writer{zip.NewWriter(w), make([]byte, 64<<10)}
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, level) })
	return zw
}

// add writes a file or a link of the folder.
func (w *writer) add(root fs.FS, e File) error {
	if e.Link != "" {
		return w.write(e, strings.NewReader(e.Link))
	}
	f, err := root.Open(e.Name)
	if err != nil {
		return err
	}
	defer f.Close() // read only: nothing can be lost
	return w.write(e, f)
}

// write adds one file. The pieces that reach the compressor are of one size,
// however the source gives them.
func (w *writer) write(e File, content io.Reader) error {
	h := &zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: epoch}
	switch {
	case e.Link != "":
		h.SetMode(fs.ModeSymlink | 0o777)
		h.Method = zip.Store
	case e.Exec:
		h.SetMode(0o555)
	default:
		h.SetMode(0o444)
	}
	out, err := w.CreateHeader(h)
	if err != nil {
		return err
	}
	for {
		n, err := io.ReadFull(content, w.buffer)
		if n > 0 {
			if _, err := out.Write(w.buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
