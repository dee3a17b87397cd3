package source

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// native is the head of a program for a machine.
func native(m elf.Machine) string {
	head := make([]byte, 64)
	copy(head, elf.ELFMAG)
	head[elf.EI_CLASS], head[elf.EI_DATA], head[16], head[18] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.ET_EXEC), byte(m)
	return string(head)
}

var (
	amd64 = native(elf.EM_X86_64)
	arm64 = native(elf.EM_AARCH64)
)

// tree writes files; one whose name ends in '*' may be executed.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := fs.FileMode(0o644)
		if program, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = program, 0o755
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// made loads and makes.
func made(t *testing.T, path string, opts Options) (*Code, error) {
	t.Helper()
	s, err := Load(path)
	if err != nil {
		return nil, err
	}
	opts.Dir, opts.Output = t.TempDir(), io.Discard
	return s.Make(t.Context(), opts)
}

func TestRuntimeHandlerAndMachineByTheFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		files map[string]string
		file  string // deployed instead of the folder
		opts  Options
		want  string // runtime, handler, machine
		err   string
	}{
		{name: "python", files: map[string]string{"main.py": "", "lib/x.py": ""}, want: "python main.handler any"},
		{name: "python, another module", files: map[string]string{"a/b.py": "", "x.py": ""}, opts: Options{Handler: "a.b.run"}, want: "python a.b.run any"},
		{name: "python, a package", files: map[string]string{"x.py": "", "app/__init__.py": ""}, opts: Options{Handler: "app.run"}, want: "python app.run any"},
		{name: "python, no handler", files: map[string]string{"x.py": ""}, err: "--handler module.function"},
		{name: "python, wrong handler", files: map[string]string{"main.py": ""}, opts: Options{Handler: "mian.handler"}, err: "there is no mian.py"},
		{name: "python, half a handler", files: map[string]string{"main.py": ""}, opts: Options{Handler: "main"}, err: "not of the form"},
		{name: "python with an extension", files: map[string]string{"main.py": "", "v/_x.cpython-311-x86_64-linux-gnu.so": amd64}, want: "python main.handler linux/amd64"},
		{name: "python, handler ignored", files: map[string]string{"main.py": "", "z.py": "", ".coveyignore": "main.py"}, opts: Options{Handler: "main.handler"}, err: "there is no main.py"},
		{name: "one module", files: map[string]string{"hi.py": "", "other.js": ""}, file: "hi.py", want: "python hi.handler any"},
		{name: "nodejs", files: map[string]string{"index.mjs": ""}, want: "nodejs index.handler any"},
		{name: "nodejs, package", files: map[string]string{"package.json": "{}", "src/app.cjs": ""}, opts: Options{Handler: "src/app.run.deep"}, want: "nodejs src/app.run.deep any"},
		{name: "nodejs, no handler", files: map[string]string{"package.json": "{}"}, err: "--handler file.export"},
		{name: "nodejs, wrong handler", files: map[string]string{"index.js": ""}, opts: Options{Handler: "app.handler"}, err: "there is no app.js"},
		{name: "nodejs with native code for two machines", files: map[string]string{"index.js": "", "a.node": amd64, "b.node": arm64}, want: "nodejs index.handler any"},
		{name: "one script", files: map[string]string{"f.js": ""}, file: "f.js", want: "nodejs f.handler any"},
		{name: "lambda", files: map[string]string{"bootstrap*": arm64}, want: "lambda  linux/arm64"},
		{name: "lambda, a script", files: map[string]string{"bootstrap*": "#!/bin/sh"}, want: "lambda  any"},
		{name: "lambda, python", files: map[string]string{"lambda_function.py": ""}, opts: Options{Runtime: "lambda"}, want: "lambda lambda_function.lambda_handler any"},
		{name: "lambda, nothing known", files: map[string]string{"f.py": ""}, opts: Options{Runtime: "lambda"}, err: "as on AWS Lambda"},
		{name: "wasm", files: map[string]string{"app.wasm": "\x00asm"}, want: "wasm  any"},
		{name: "one wasm", files: map[string]string{"app.wasm": "\x00asm"}, file: "app.wasm", want: "wasm  any"},
		{name: "exec", files: map[string]string{"run.sh*": "#!/bin/sh", "data.txt": ""}, want: "exec  any"},
		{name: "exec, native", files: map[string]string{"tool*": amd64}, file: "tool", want: "exec  linux/amd64"},
		{name: "exec, two programs", files: map[string]string{"a*": "", "b*": ""}, err: "several executable files (a, b)"},
		{name: "exec, two programs and a handler", files: map[string]string{"a*": "", "b*": ""}, opts: Options{Handler: "a -x"}, want: "exec a -x any"},
		{name: "exec, nothing to run", files: map[string]string{"a": ""}, opts: Options{Runtime: "exec"}, err: "chmod +x"},
		{name: "a machine that is none", files: map[string]string{"bootstrap*": native(elf.EM_SPARCV9)}, err: "EM_SPARCV9, which no node runs on"},
		{name: "several", files: map[string]string{"main.py": "", "index.js": "", "run*": ""}, err: "can be python (main.py) or nodejs (index.js): choose"},
		{name: "nothing", files: map[string]string{"README": ""}, err: "no function that can be recognised: say"},
		{name: "a library", files: map[string]string{"lib.go": "package lib"}, err: "is it package main?"},
		{name: "an empty folder", files: map[string]string{".coveyignore": ""}, opts: Options{Runtime: "exec", Handler: "/bin/cat"}, err: "there is nothing in it"},
		{name: "a platform", files: map[string]string{"main.py": ""}, opts: Options{Platforms: []string{"linux/arm64"}}, err: "--platform is for building Go"},
		{name: "what is no file", files: map[string]string{}, file: "missing", err: "missing"},
		{name: "a text", files: map[string]string{"notes": "x"}, file: "notes", err: "no function"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, err := made(t, filepath.Join(tree(t, tc.files), tc.file), tc.opts)
			if tc.err != "" {
				if _, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			machine := "any"
			if a := code.Artifacts[0]; a.OS != "" {
				machine = a.OS + "/" + a.Arch
			}
			if got := code.Runtime + " " + code.Handler + " " + machine; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestManifestAndFlags(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"covey.yaml":      "name: f\nruntime: python\nhandler: src/app.run\nexclude: secret.txt\n",
		"src/app.js":      "",
		"secret.txt":      "",
		"node_modules/.x": "",
	})
	if _, err := made(t, dir, Options{}); err == nil || !strings.Contains(err.Error(), "src/app.py") {
		t.Errorf("python: %v", err)
	}
	code, err := made(t, dir, Options{Runtime: "nodejs"})
	if err != nil || code.Runtime != "nodejs" || code.Handler != "src/app.run" {
		t.Fatalf("%+v, %v", code, err)
	}
	if got, want := inside(t, code.Artifacts[0].Path), []string{"node_modules/.x", "src/app.js"}; !slices.Equal(got, want) {
		t.Errorf("packed %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "covey.yaml"), []byte("nmae: f"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = made(t, dir, Options{})
	if _, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(err.Error(), `covey.yaml:1: unknown key "nmae"`) {
		t.Errorf("a wrong manifest: %v", err)
	}
}

// inside lists an archive.
func inside(t *testing.T, path string) []string {
	t.Helper()
	zr, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	var names []string
	for _, f := range zr.File {
		names = append(names, f.Name)
	}
	return names
}

func TestBuildMakesWhatIsDeployed(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"covey.yaml": "build: mkdir -p out && cp src.txt out/app.wasm && echo built\ncode: out/app.wasm\n", "src.txt": "\x00asm",
	})
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	code, err := s.Make(t.Context(), Options{Dir: t.TempDir(), Output: &output})
	if err != nil || code.Runtime != "wasm" || output.String() != "built\n" {
		t.Fatalf("%+v, %v, %q", code, err, output.String())
	}
	if got := inside(t, code.Artifacts[0].Path); !slices.Equal(got, []string{"app.wasm"}) {
		t.Errorf("packed %q", got)
	}
	s.Manifest.Build = "exit 3"
	_, err = s.Make(t.Context(), Options{Dir: t.TempDir(), Output: io.Discard})
	if _, input := errors.AsType[*InputError](err); err == nil || input || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a build that fails: %v", err)
	}
}

func TestZipIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range map[string]string{"bootstrap": arm64, "lib/data": "x"} {
		out, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(out, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := tree(t, map[string]string{"f.zip": b.String(), "bad.zip": "no zip"})
	code, err := made(t, filepath.Join(dir, "f.zip"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a := code.Artifacts[0]; code.Runtime != "lambda" || a.Path != filepath.Join(dir, "f.zip") || a.Arch != "arm64" {
		t.Errorf("got %+v", code)
	}
	if _, err := made(t, filepath.Join(dir, "f.zip"), Options{Runtime: "go"}); err == nil {
		t.Error("a zip passes as Go")
	}
	_, err = made(t, filepath.Join(dir, "bad.zip"), Options{})
	if _, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(err.Error(), "not a zip") {
		t.Errorf("what is no zip: %v", err)
	}
}

func TestGoIsBuiltOrTaken(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"go.mod": "module example.com/f\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n", "main_test.go": "package main\n",
		"data/link": "",
	})
	// A folder that could not be packed can be built all the same.
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "data", "out")); err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	code, err := s.Make(t.Context(), Options{Dir: out, Output: io.Discard, Platforms: []string{"linux/amd64", "linux/arm64"}})
	if err != nil {
		t.Fatal(err)
	}
	if a := code.Artifacts; code.Runtime != "go" || len(a) != 2 || a[0].Arch != "amd64" || a[1].Arch != "arm64" {
		t.Fatalf("got %+v", code)
	}
	// Without the SDK in it, a program by itself is one for exec.
	built := code.Artifacts[0].Path
	if alone, err := made(t, built, Options{}); err != nil || alone.Runtime != "exec" || alone.Artifacts[0].Arch != "amd64" {
		t.Errorf("%+v, %v", alone, err)
	}
	if alone, err := made(t, built, Options{Runtime: "go"}); err != nil || alone.Artifacts[0].Path != built {
		t.Errorf("%+v, %v", alone, err)
	}
	if _, err := made(t, dir, Options{Platforms: []string{runtime.GOARCH}}); err == nil || !strings.Contains(err.Error(), "OS/ARCH") {
		t.Errorf("half a platform: %v", err)
	}
}

func TestTooMuchIsSaidBeforeAnythingIsPacked(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"main.py": ""})
	big, err := os.Create(filepath.Join(dir, "model.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(251<<20), big.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = made(t, dir, Options{})
	if _, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(err.Error(), "model.bin 251 MiB") || !strings.Contains(err.Error(), ".coveyignore") {
		t.Errorf("got %v", err)
	}
}

func TestProgramsWithTheSDKAreKnown(t *testing.T) {
	t.Parallel()
	// This test's own binary is of our module, which has the SDK.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if !usesSDK(self) {
		t.Error("our own module is not recognised")
	}
	if usesSDK("/bin/sh") {
		t.Error("a shell is taken for a function")
	}
}
