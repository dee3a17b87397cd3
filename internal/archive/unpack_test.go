package archive

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"
)

// item is an entry of an archive that is not made by Pack.
type item struct {
	name, content string
	mode          fs.FileMode
	change        func(h *zip.FileHeader)
}

// archiveOf writes items as they are.
func archiveOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, i := range items {
		h := &zip.FileHeader{Name: i.name, Method: zip.Deflate}
		if i.mode != 0 {
			h.SetMode(i.mode)
		}
		if i.change == nil {
			i.change = func(*zip.FileHeader) {}
		}
		i.change(h)
		out, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(out, i.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack unpacks into a fresh folder below a fresh parent, whose other content is
// returned by a later look.
func unpack(ctx context.Context, t testing.TB, archive []byte, limits Limits) (string, error) {
	t.Helper()
	parent, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "code")
	t.Cleanup(func() { _ = Remove(dir) })
	err = Unpack(ctx, bytes.NewReader(archive), int64(len(archive)), dir, limits)
	if err != nil {
		left, readErr := os.ReadDir(parent)
		if readErr != nil || len(left) > 0 {
			t.Errorf("after %v: left behind %v, %v", err, left, readErr)
		}
	}
	return dir, err
}

func TestUnpackGivesWhatWasPacked(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[a-cÄ. -]{1,3}`).Filter(func(s string) bool { return s != "." && s != ".." })
	rapid.Check(t, func(rt *rapid.T) {
		root := fstest.MapFS{}
		for range rapid.IntRange(0, 8).Draw(rt, "files") {
			name := path.Join(rapid.SliceOfN(word, 1, 3).Draw(rt, "name")...)
			root[name] = &fstest.MapFile{
				Data: []byte(rapid.String().Draw(rt, "content")),
				Mode: rapid.SampledFrom([]fs.FileMode{0o444, 0o555}).Draw(rt, "mode"),
			}
		}
		for name := range root {
			for up := path.Dir(name); up != "."; up = path.Dir(up) {
				delete(root, up) // a file where a folder must be
			}
		}
		for name := range root {
			if rapid.Bool().Draw(rt, "linked") {
				to := path.Join(path.Dir(name), "link to "+path.Base(name))
				root[to] = link(path.Base(name))
			}
		}
		archive := pack(t, root, Options{})
		dir, err := unpack(t.Context(), t, archive, DefaultLimits())
		if err != nil {
			rt.Fatal(err)
		}
		same(rt, root, os.DirFS(dir))
		if again := pack(t, os.DirFS(dir), Options{}); !bytes.Equal(again, archive) {
			rt.Error("packed again it has other bytes")
		}
	})
}

// same compares two folders by name, mode and content.
func same(t *rapid.T, want fstest.MapFS, got fs.FS) {
	seen := 0
	err := fs.WalkDir(got, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			if info.Mode().Perm() != 0o555 {
				t.Errorf("folder %q has mode %v", name, info.Mode())
			}
			return nil
		}
		seen++
		w := want[name]
		if w == nil || info.Mode() != w.Mode {
			t.Errorf("%q: %v, want %+v", name, info.Mode(), w)
			return nil
		}
		var content []byte
		if d.Type() == fs.ModeSymlink {
			var target string
			target, err = fs.ReadLink(got, name)
			content = []byte(target)
		} else {
			content, err = fs.ReadFile(got, name)
		}
		if !bytes.Equal(content, w.Data) {
			t.Errorf("%q: %q, want %q", name, content, w.Data)
		}
		return err
	})
	if err != nil || seen != len(want) {
		t.Errorf("%d files, want %d: %v", seen, len(want), err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x/", maxName/2) + "x"
	for _, tc := range []struct {
		name  string
		items []item
		says  string
	}{
		{"a way out", []item{{name: "a/../../b"}}, `"a/../../b"`},
		{"a way out of a folder", []item{{name: "../d/", mode: fs.ModeDir | 0o755}}, "outside"},
		{"an absolute name", []item{{name: "/etc/passwd"}}, `"/etc/passwd"`},
		{"a backslash", []item{{name: `a\b`}}, "backslash"},
		{"a zero byte", []item{{name: "a\x00b"}}, "zero byte"},
		{"a name in another code page", []item{{name: "a\xff"}}, "UTF-8"},
		{"a long name", []item{{name: long}}, "longer"},
		{"a long part", []item{{name: strings.Repeat("x", 256)}}, "255"},
		{"a name twice", []item{{name: "a"}, {name: "./a"}}, "twice"},
		{"a file as a folder", []item{{name: "a"}, {name: "a/b"}}, "as well as a folder"},
		{"a link as a folder", []item{{name: "a", content: ".", mode: fs.ModeSymlink | 0o777}, {name: "a/b"}}, "as well as a folder"},
		{"the top as a file", []item{{name: "."}}, "twice"},
		{"a link that leads out", []item{{name: "a", content: "../x", mode: fs.ModeSymlink | 0o777}}, "outside"},
		{"an absolute link", []item{{name: "a", content: "/etc/shadow", mode: fs.ModeSymlink | 0o777}}, "absolute"},
		{"an empty link", []item{{name: "a", mode: fs.ModeSymlink | 0o777}}, "nothing"},
		{"a long link", []item{{name: "a", content: long, mode: fs.ModeSymlink | 0o777}}, "longer"},
		{"a device", []item{{name: "a", mode: fs.ModeDevice | 0o666}}, "neither"},
		{"a pipe", []item{{name: "a", mode: fs.ModeNamedPipe | 0o666}}, "neither"},
		{"a secret", []item{{name: "a", change: func(h *zip.FileHeader) { h.Flags |= 1 }}}, "encrypted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			archive := archiveOf(t, append(tc.items, item{name: "good"})...)
			_, err := unpack(t.Context(), t, archive, DefaultLimits())
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			if err := Check(bytes.NewReader(archive), int64(len(archive)), DefaultLimits()); !errors.Is(err, ErrRefused) {
				t.Errorf("check: %v", err)
			}
		})
	}
}

func TestUnpackTakesWhatOtherToolsMake(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t,
		item{name: "./", mode: fs.ModeDir | 0o755},
		item{name: "./lib/", mode: fs.ModeDir | 0o700},
		item{name: "./lib/Same", content: "1", mode: 0o600},
		item{name: "lib/same", content: "2", mode: 0o6755 | fs.ModeSetuid | fs.ModeSetgid},
		item{name: "unknown", content: "3", change: func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 0, 0 }},
		item{name: "stored", content: "4", mode: 0o644, change: func(h *zip.FileHeader) { h.Method = zip.Store }},
		item{name: "gone", content: "lib/nothing", mode: fs.ModeSymlink | 0o777},
		item{name: "empty/", mode: fs.ModeDir | 0o755},
	)
	dir, err := unpack(t.Context(), t, archive, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"lib/Same": 0o444, "lib/same": 0o555, "unknown": 0o555, "stored": 0o444,
		"empty": fs.ModeDir | 0o555, "lib": fs.ModeDir | 0o555, ".": fs.ModeDir | 0o555, "gone": fs.ModeSymlink | 0o777,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info, err, want)
		}
	}
}

func TestUnpackStopsAtItsLimits(t *testing.T) {
	t.Parallel()
	big := item{name: "big", content: strings.Repeat("0", 1<<20)}
	tight := Limits{Bytes: 1 << 20, Files: 3}
	for _, tc := range []struct {
		name    string
		archive []byte
	}{
		{"one that is too large", archiveOf(t, item{name: "big", content: big.content + "0"})},
		{"a sum that is too large", archiveOf(t, big, item{name: "b", content: "1"})},
		{"too many files", archiveOf(t, item{name: "a"}, item{name: "b"}, item{name: "c"}, item{name: "d"})},
		{"too many folders", archiveOf(t, item{name: "a/b/c/d"})},
		{"a size that is a lie", lying(t, 1<<20+1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := unpack(t.Context(), t, tc.archive, tight); !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrRefused) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := unpack(t.Context(), t, archiveOf(t, big, item{name: "a/b"}), tight); err != nil {
		t.Errorf("what fits exactly: %v", err)
	}
}

// lying is an archive whose only file says that it has one byte.
func lying(t testing.TB, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	content := bytes.Repeat([]byte("0"), size)
	h := &zip.FileHeader{Name: "a", Method: zip.Store, CRC32: crc32.ChecksumIEEE(content), CompressedSize64: uint64(size), UncompressedSize64: 1}
	out, err := w.CreateRaw(h)
	if err == nil {
		_, err = out.Write(content)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDirectoryOfAnArchiveIsBounded(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 40_000 {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := unpack(t.Context(), t, b.Bytes(), Limits{Bytes: 1, Files: 10})
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "directory") {
		t.Errorf("got %v", err)
	}
}

func TestUnpackSeesDamage(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t, item{name: "a", content: strings.Repeat("some text ", 100)})
	broken := bytes.Clone(archive)
	broken[40] ^= 0xff
	if _, err := unpack(t.Context(), t, broken, DefaultLimits()); !errors.Is(err, ErrRefused) {
		t.Errorf("flipped bits: %v", err)
	}
	if _, err := unpack(t.Context(), t, archive[:len(archive)/2], DefaultLimits()); !errors.Is(err, ErrNotZip) {
		t.Errorf("half of it: %v", err)
	}
	if _, err := unpack(t.Context(), t, nil, DefaultLimits()); !errors.Is(err, ErrNotZip) {
		t.Errorf("nothing: %v", err)
	}
}

func TestUnpackEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := unpack(ctx, t, archiveOf(t, item{name: "a/b", content: "1"}), DefaultLimits()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnpackLeavesAnotherFolderAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	archive := archiveOf(t, item{name: "a"})
	if err := Unpack(t.Context(), bytes.NewReader(archive), int64(len(archive)), dir, DefaultLimits()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, item{name: "a/b", content: "text"}, item{name: "l", content: "a/b", mode: fs.ModeSymlink | 0o777}))
	f.Add(archiveOf(f, item{name: "../x"}, item{name: "d/", mode: fs.ModeDir | 0o755}))
	f.Add(lying(f, 100))
	f.Add(pack(f, fstest.MapFS{"main.py": file("x = 1"), "run": {Data: []byte("#!/bin/sh"), Mode: 0o755}}, Options{}))
	limits := Limits{Bytes: 1 << 16, Files: 20}
	f.Fuzz(func(t *testing.T, archive []byte) {
		dir, err := unpack(t.Context(), t, archive, limits)
		if err != nil {
			return
		}
		// What was unpacked is sound: it can be read through a root, and packed.
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := Pack(io.Discard, root.FS(), Options{Limits: limits}); err != nil {
			t.Errorf("what was unpacked cannot be packed: %v", err)
		}
		err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type() == fs.ModeSymlink {
				if _, err := root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("link %q: %v", name, err)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
