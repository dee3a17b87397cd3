package nodetest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// Build compiles a main package of this repository the way `covey deploy` does
// and returns the program's path. name is below plugins/examples, or a path from
// the root of the repository.
func Build(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	pkg := "github.com/covey-dev/covey/plugins/examples/" + name
	if filepath.Base(name) != name {
		pkg = "github.com/covey-dev/covey/" + name
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
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
	return v
}

