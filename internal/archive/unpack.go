package archive

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/flate"
)

// plan is an archive that has been checked as a whole.
type plan struct {
	folders []string // parents first, without the top
	files   []planned
	links   map[string]string
	bytes   int64 // as the archive says; counted again while writing
}

type planned struct {
	name string
	exec bool
	from *zip.File
}

// Check reports why Unpack would refuse the archive, without writing anything. What
// shows only while data is decompressed, such as a wrong checksum, it does not see.
func Check(r io.ReaderAt, size int64, limits Limits) error {
	_, err := read(r, size, limits)
	return err
}

// Unpack makes the folder dir, which must not exist, and fills it with what the
// archive holds: files with mode 0444 or, if anybody may execute them, 0555,
// folders with 0555, all owned by the caller's user. Nothing is synced. On an
// error, ctx's included, nothing of dir is left.
//
// The errors wrap ErrNotZip, ErrTooLarge or ErrRefused when the archive is at
// fault.
func Unpack(ctx context.Context, r io.ReaderAt, size int64, dir string, limits Limits) (err error) {
	p, err := read(r, size, limits)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, Remove(dir))
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	return p.write(ctx, root, limits)
}

// Remove deletes a folder that Unpack made. Its folders are read-only, which
// keeps anybody but root from deleting what is in them.
func Remove(dir string) error {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// read opens an archive and checks it.
func read(r io.ReaderAt, size int64, limits Limits) (*plan, error) {
	// The reader keeps the whole directory in memory, so what it may read of one
	// is bounded before it knows how many entries there are.
	bounded := &boundedReader{r: r, left: int64(limits.Files)*maxRecord + 1<<20}
	zr, err := zip.NewReader(bounded, size)
	switch {
	case bounded.left < 0:
		return nil, fmt.Errorf("the archive's directory is too long for %d files: %w", limits.Files, ErrTooLarge)
	case errors.Is(err, zip.ErrInsecurePath):
		// Names are checked below, and the complaint there says which one.
	case err != nil:
		return nil, fmt.Errorf("read archive: %w: %w", err, ErrNotZip)
	}
	bounded.open = true
	zr.RegisterDecompressor(zip.Deflate, flate.NewReader)
	return newPlan(zr, limits)
}

// boundedReader fails when more than left bytes are read before it is open.
type boundedReader struct {
	r    io.ReaderAt
	left int64
	open bool
}

func (b *boundedReader) ReadAt(p []byte, at int64) (int, error) {
	if !b.open {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, ErrTooLarge
		}
	}
	return b.r.ReadAt(p, at)
}

// newPlan checks names, kinds and sizes, and that no entry is in another's way.
func newPlan(zr *zip.Reader, limits Limits) (*plan, error) {
	p := &plan{links: map[string]string{}}
	if err := limits.check(len(zr.File), 0); err != nil {
		return nil, fmt.Errorf("the archive has %w", err)
	}
	folders, taken := map[string]bool{".": true}, map[string]bool{}
	for _, f := range zr.File {
		name, err := clean(f.Name)
		if err != nil {
			return nil, err
		}
		mode := f.Mode()
		if mode.IsDir() {
			addFolder(folders, name)
			continue
		}
		if err := checkFile(f, mode); err != nil {
			return nil, err
		}
		if taken[name] || name == "." {
			return nil, refuse(f.Name, "is in the archive twice")
		}
		taken[name] = true
		addFolder(folders, path.Dir(name))
		if p.bytes += int64(f.UncompressedSize64); f.UncompressedSize64 > uint64(limits.Bytes) || p.bytes > limits.Bytes {
			return nil, fmt.Errorf("the archive has more than %s unpacked: %w", mebibytes(limits.Bytes), ErrTooLarge)
		}
		if mode.Type() == fs.ModeSymlink {
			if p.links[name], err = readLink(f); err != nil {
				return nil, err
			}
			continue
		}
		p.files = append(p.files, planned{name, executable(f, mode), f})
	}
	return p, p.settle(folders, taken, limits)
}

// checkFile refuses what is no file and no link, and what cannot be read.
func checkFile(f *zip.File, mode fs.FileMode) error {
	const encrypted = 1
	switch {
	case mode.Type() != 0 && mode.Type() != fs.ModeSymlink:
		return refuse(f.Name, "is neither a file nor a folder nor a link")
	case f.Flags&encrypted != 0:
		return refuse(f.Name, "is encrypted")
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return refuse(f.Name, "is compressed by method %d: use deflate", f.Method)
	}
	return nil
}

// executable reports whether a file becomes 0555. Archives that were made where
// there are no modes say nothing about it, and then a program must not become
// unusable.
func executable(f *zip.File, mode fs.FileMode) bool {
	const unix, macOS = 3, 19
	if system := f.CreatorVersion >> 8; system != unix && system != macOS || f.ExternalAttrs>>16 == 0 {
		return true
	}
	return mode&0o111 != 0
}

// addFolder notes a folder and those above it.
func addFolder(folders map[string]bool, name string) {
	for ; !folders[name]; name = path.Dir(name) {
		folders[name] = true
	}
}

// readLink reads where a link leads.
func readLink(f *zip.File) (string, error) {
	if f.UncompressedSize64 > maxLink {
		return "", refuse(f.Name, "is a link longer than %d bytes", maxLink)
	}
	r, err := f.Open()
	if err != nil {
		return "", fmt.Errorf("read link %q: %w", f.Name, fault(err))
	}
	defer r.Close()
	target, err := io.ReadAll(io.LimitReader(r, maxLink+1))
	if err != nil {
		return "", fmt.Errorf("read link %q: %w", f.Name, fault(err))
	}
	return string(target), nil
}

// settle checks what only the whole shows: a file where a folder must be, links
// that leave, and the count of all folders.
func (p *plan) settle(folders, taken map[string]bool, limits Limits) error {
	delete(folders, ".")
	for name := range folders {
		if taken[name] {
			return refuse(name, "is a file or a link as well as a folder")
		}
		p.folders = append(p.folders, name)
	}
	slices.Sort(p.folders)
	if err := limits.check(len(folders)+len(taken), p.bytes); err != nil {
		return fmt.Errorf("the archive has %w", err)
	}
	var wrong []error
	for name := range p.links {
		wrong = append(wrong, checkLink(p.links, name))
	}
	return errors.Join(wrong...)
}

// write fills the folder: links come after all files, so that no file can be
// written through one, and the folders are closed last, the innermost first.
func (p *plan) write(ctx context.Context, root *os.Root, limits Limits) error {
	for _, name := range p.folders {
		if err := root.Mkdir(name, 0o700); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
	left := limits.Bytes
	buffer := make([]byte, 128<<10)
	for _, f := range p.files {
		if err := f.write(ctx, root, &left, buffer); err != nil {
			return fmt.Errorf("unpack %q: %w", f.name, err)
		}
	}
	for name, target := range p.links {
		if err := root.Symlink(target, name); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
	for _, name := range slices.Backward(append([]string{"."}, p.folders...)) {
		if err := root.Chmod(name, 0o555); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
	return nil
}

// write makes one file. left is what all files may still take: sizes that the
// archive claims are not believed.
func (f planned) write(ctx context.Context, root *os.Root, left *int64, buffer []byte) (err error) {
	in, err := f.from.Open()
	if err != nil {
		return fault(err)
	}
	defer in.Close()
	out, err := root.OpenFile(f.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buffer)
		if *left -= int64(n); *left < 0 {
			return ErrTooLarge
		}
		if _, err := out.Write(buffer[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault(err)
		}
	}
	mode := fs.FileMode(0o444)
	if f.exec {
		mode = 0o555
	}
	return out.Chmod(mode) // not by the mask of the process
}

// fault marks an error of reading as one of the archive, unless the disk that
// it is read from failed.
func fault(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return fmt.Errorf("%w: %w", err, ErrRefused)
}
