package nodetest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// Build compiles main packages of this repository into a folder, the way they are
// shipped: static, and without the race detector. It is for TestMain, so that
// tests share what it builds.
func Build(dir string, packages ...string) error {
	args := []string{"build", "-trimpath", "-o", dir + string(filepath.Separator)}
	for _, p := range packages {
		args = append(args, "github.com/covey-dev/covey/"+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", packages, err, out)
	}
	return nil
}

// Deploy uploads a program and deploys it as a version of a function of the
// default app.
func Deploy(t testing.TB, c *client.Client, name, program string, spec wire.FunctionSpec) *wire.Version {
	t.Helper()
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	up, err := c.Upload(t.Context(), func() (io.ReadCloser, error) { return os.Open(program) }, info.Size())
	if err != nil {
		t.Fatalf("upload %s: %v", program, err)
	}
	spec.Artifacts = []wire.Artifact{{OS: runtime.GOOS, Arch: runtime.GOARCH, Digest: up.Digest, Size: uint64(up.Size)}}
	v, err := c.Deploy(t.Context(), "default", name, wire.DeployRequest{FunctionSpec: spec})
	if err != nil {
		t.Fatalf("deploy %s: %v", name, err)
	}
	return &v.Version
}

// AwaitCode waits until the code of a version is on the disk of each of the data
// directories. A deploy returns once two nodes have it; the third owner fetches it
// a moment later.
func AwaitCode(t testing.TB, v *wire.Version, dataDirs ...string) {
	t.Helper()
	digest, ok := strings.CutPrefix(v.Spec.Artifacts[0].Digest, "sha256:")
	if !ok {
		t.Fatalf("digest %q", v.Spec.Artifacts[0].Digest)
	}
	Await(t, 20*time.Second, func() error {
		for _, dir := range dataDirs {
			if _, err := os.Stat(filepath.Join(dir, "blobs", "objects", digest[:2], digest)); err != nil {
				return err
			}
		}
		return nil
	})
}
