package python

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// overlay shows the SDK in a folder of the runtime's own files.
type overlay struct {
	own fs.FS
	at  string
	sdk fs.FS
}

var _ fs.ReadDirFS = overlay{}

// Open opens a file of either. A folder that both have is the runtime's own; ReadDir lists both.
func (o overlay) Open(name string) (fs.File, error) {
	file, err := o.own.Open(name)
	if inner, ok := strings.CutPrefix(name, o.at+"/"); err != nil && ok {
		return o.sdk.Open(inner)
	}
	return file, err
}

// ReadDir lists a folder.
func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.own, name)
	inner, ok := strings.CutPrefix(path.Clean(name)+"/", o.at+"/")
	if !ok {
		return entries, err
	}
	more, sdkErr := fs.ReadDir(o.sdk, path.Clean("./"+inner))
	if err != nil {
		return more, sdkErr
	}
	entries = append(entries, more...)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}
