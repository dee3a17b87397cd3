package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// previousDir holds what is kept of the previous release; `scripts/keep-previous`
// makes it.
const previousDir = "testdata/previous"

// release is the programs of another commit.
type release struct {
	commit string
	// covey is the daemon; function keeps the ledger and conformance does what the
	// suite of package plugintest asks for, both built with the SDK of that time.
	covey, function, conformance string
}

// previousRelease returns the release that this one follows. Its programs are built
// from the history, which a shallow clone has not: the test is skipped there.
func previousRelease(t *testing.T) *release {
	t.Helper()
	commit, err := os.ReadFile(filepath.Join(previousDir, "commit"))
	if err != nil {
		t.Fatal(err)
	}
	return newRelease(t, strings.TrimSpace(string(commit)))
}

// newRelease builds the programs of a commit, once: they stay in build/previous.
func newRelease(t *testing.T, commit string) *release {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "build", "previous", commit)
	r := &release{
		commit: commit, covey: filepath.Join(dir, "covey"),
		function: filepath.Join(dir, "function"), conformance: filepath.Join(dir, "conformance"),
	}
	if _, err := os.Stat(dir); err == nil {
		return r
	}
	if out, err := exec.Command("git", "-C", root, "cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("needs commit %s of the history, which is not here (git fetch --unshallow brings it): %v %s", commit, err, out)
	}
	if err := buildRelease(root, commit, dir, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return r
}

// buildRelease builds from the files of the commit alone, in scratch. The programs
// appear in dir together: another run of the tests may be looking for them.
func buildRelease(root, commit, dir, scratch string) error {
	src, out := filepath.Join(scratch, "src"), filepath.Join(scratch, "out")
	var errOut bytes.Buffer
	cmd := exec.Command("git", "-C", root, "archive", "--format=tar", commit)
	cmd.Stderr = &errOut
	files, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("read commit %s: %w\n%s", commit, err, errOut.Bytes())
	}
	if err := untar(bytes.NewReader(files), src); err != nil {
		return fmt.Errorf("unpack commit %s: %w", commit, err)
	}
	cmd = exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", out+string(filepath.Separator),
		"-ldflags", "-X github.com/covey-dev/covey/node/cli.version="+commit,
		"./cmd/covey", "./node/e2e/ledger/function", "./plugins/examples/conformance")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build commit %s: %w\n%s", commit, err, said)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	beside, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(beside)
	if err := os.CopyFS(filepath.Join(beside, "bin"), os.DirFS(out)); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(beside, "bin"), dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// node prepares a machine with the release's daemon.
func (r *release) node(t testing.TB, name string) *node {
	n := newNode(t, name)
	n.bin = r.covey
	return n
}

// upgrade restarts the daemon as the new one, as an operator does.
func (n *node) upgrade() {
	n.t.Helper()
	n.stop()
	n.bin = coveyBin
	n.start()
}

// untar writes the files of an archive to a folder.
func untar(r io.Reader, dir string) error {
	for in := tar.NewReader(r); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if head.Typeflag != tar.TypeReg {
			continue // folders follow from their files
		}
		if !filepath.IsLocal(head.Name) {
			return fmt.Errorf("%q is not inside the archive", head.Name)
		}
		path := filepath.Join(dir, head.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, head.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}
