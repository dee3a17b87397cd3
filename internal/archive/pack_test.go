package archive

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// pack packs a folder that must be fit for it.
func pack(t testing.TB, root fs.FS, opts Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(&b, root, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// names lists what is in an archive.
func names(t testing.TB, archive []byte) []string {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range zr.File {
		all = append(all, f.Name)
	}
	return all
}

func file(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content), Mode: 0o644} }

func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

// The digest of a fixed folder. If this fails after an update of the compressor,
// write the new one here and say in the changelog that unchanged code is
// uploaded once more.
func TestDigestOfAFixedFolder(t *testing.T) {
	t.Parallel()
	const want = "97206956b91740c8a768a27ed2227edecc9357f7fb322dc8a197d64e2293376b"
	var text strings.Builder
	for i := range 20_000 {
		text.WriteString(strings.Repeat(string(rune('a'+i*7%26)), i%5+1))
	}
	archive := pack(t, fstest.MapFS{
		"main.py":    file("def handler(event, context):\n    return event\n"),
		"lib/big.py": file(text.String()),
		"lib/run":    {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"lib/link":   link("../main.py"),
		"empty":      file(""),
	}, Options{})
	digest := sha256.Sum256(archive)
	if got := hex.EncodeToString(digest[:]); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestPackDependsOnContentAlone(t *testing.T) {
	t.Parallel()
	first := fstest.MapFS{
		"b/code.py": file("x = 1"),
		"a.py":      file("y = 2"),
		"run":       {Data: []byte("#!/bin/sh"), Mode: 0o700},
	}
	second := t.TempDir()
	for name, f := range first {
		path := filepath.Join(second, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, f.Data, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now(), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Join(second, "run"), 0o755), os.Mkdir(filepath.Join(second, "empty"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pack(t, first, Options{}), pack(t, os.DirFS(second), Options{})) {
		t.Error("times, modes or empty folders change the bytes")
	}
}

func TestPackLeavesOutWhatIsNoCode(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		"main.py": file(""), "main.pyc": file(""), "__pycache__/main.pyc": file(""), ".git/HEAD": file(""),
		"node_modules/left/index.js": file(""), "node_modules/.cache/x": file(""),
		"docs/a.md": file(""), "docs/keep.md": file(""), "sub/docs/b.md": file(""), "tests/t.py": file(""), "a/b/c/deep.log": file(""),
		".coveyignore": file("# comment\n\n*.log\n/docs/*.md\n!docs/keep.md\ntests/\n"),
	}
	for _, tc := range []struct {
		name string
		opts Options
		want []string
	}{
		{"by itself", Options{}, []string{"docs/keep.md", "main.py", "node_modules/left/index.js", "sub/docs/b.md"}},
		{"exclude adds", Options{Exclude: []string{"node_modules", "sub/**"}}, []string{"docs/keep.md", "main.py"}},
		{"exclude takes back", Options{Exclude: []string{"!*.log", "docs", "sub", "node_modules"}}, []string{"a/b/c/deep.log", "main.py"}},
		{"include selects", Options{Include: []string{"*.py", "/docs"}}, []string{"docs/keep.md", "main.py"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := names(t, pack(t, root, tc.opts)); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, name string
		folder, want  bool
	}{
		{"foo", "foo", false, true},
		{"foo", "a/foo", true, true},
		{"foo", "foobar", false, false},
		{"/foo", "a/foo", false, false},
		{"foo/", "foo", false, false},
		{"foo/", "a/foo", true, true},
		{"a/*/c", "a/b/c", false, true},
		{"a/*/c", "a/b/d/c", false, false},
		{"a/**/c", "a/c", false, true},
		{"a/**/c", "a/b/d/c", false, true},
		{"**/x", "x", false, true},
		{"a/**", "a", true, false},
		{"a/**", "a/b/c", false, true},
		{"*.py[co]", "b/x.pyc", false, true},
		{"[!a]x", "ax", false, false},
		{"[!a]x", "bx", false, true},
		{"?.js", "a.js", false, true},
		{"?.js", "/.js", false, false},
		{`\!x`, "!x", false, true},
		{"a.b", "aXb", false, false},
		{"[", "[", false, true},
	} {
		ps, err := parsePatterns([]string{tc.pattern})
		if err != nil {
			t.Errorf("%q: %v", tc.pattern, err)
			continue
		}
		if got := ps.ignored(tc.name, tc.folder); got != tc.want {
			t.Errorf("%q on %q: %v", tc.pattern, tc.name, got)
		}
	}
	for _, bad := range []string{"[z-a]", "/", "!"} {
		if _, err := parsePatterns([]string{bad}); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		root fstest.MapFS
		opts Options
		err  error
		says string
	}{
		{"an absolute link", fstest.MapFS{"venv/python": link("/usr/bin/python3")}, Options{}, ErrRefused, `"venv/python"`},
		{"a link that leads out", fstest.MapFS{"a/up": link("../../x")}, Options{}, ErrRefused, `"a/up"`},
		{"a link through a link", fstest.MapFS{"a/b/c/top": link("../../.."), "a/b/c/out": link("top/..")}, Options{}, ErrRefused, `"a/b/c/out"`},
		{"a circle", fstest.MapFS{"a": link("b"), "b": link("a")}, Options{}, ErrRefused, "circle"},
		{"a pipe", fstest.MapFS{"p": {Mode: fs.ModeNamedPipe}}, Options{}, ErrRefused, `"p"`},
		{"a backslash", fstest.MapFS{`a\b`: file("")}, Options{}, ErrRefused, "backslash"},
		{
			"too much",
			fstest.MapFS{"node_modules/big/a": file("12345"), "main.js": file("1")},
			Options{Limits: Limits{Bytes: 5, Files: 10}},
			ErrTooLarge, "the largest of it: node_modules/big",
		},
		{"too many", fstest.MapFS{"a": file(""), "b": file("")}, Options{Limits: Limits{Bytes: 5, Files: 1}}, ErrTooLarge, "2 files"},
		{"a wrong pattern", fstest.MapFS{"a": file("")}, Options{Exclude: []string{"[z-a]"}}, nil, "[z-a]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			err := Pack(&b, tc.root, tc.opts)
			if err == nil || tc.err != nil && !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			if b.Len() > 0 {
				t.Error("something was written")
			}
		})
	}
}

func TestPackFile(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := PackFile(&b, "tool", strings.NewReader("#!/bin/sh"), true); err != nil {
		t.Fatal(err)
	}
	folder := pack(t, fstest.MapFS{"tool": {Data: []byte("#!/bin/sh"), Mode: 0o755}}, Options{})
	if !bytes.Equal(b.Bytes(), folder) {
		t.Error("a file by itself is not packed like a folder with it")
	}
}
