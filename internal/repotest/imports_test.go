package repotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/covey-dev/covey"

// arrows lists, for each folder that has rules, which of our folders it may
// import besides itself and the folders below it. A package follows the rule of
// the longest folder that holds it. docs/architecture.md draws the same arrows.
var arrows = map[string][]string{
	"cmd":                    {"node/cli"},
	"node":                   {"scheduler", "executor", "events", "cluster", "plugins", "internal"},
	"scheduler":              {"cluster/state", "cluster/clusterpb", "internal"},
	"executor":               {"plugins", "internal"},
	"executor/sandbox":       {"internal"},
	"plugins":                {},
	"cluster":                {"internal"},
	"cluster/state":          {"cluster/clusterpb"},
	"cluster/clusterpb":      {},
	"cluster/group":          {"internal"},
	"events":                 {"internal"},
	"events/raftlog":         {"events", "cluster/group", "internal"},
	"internal":               {},
	"internal/repotest":      {},
	"internal/clock":         {},
	"internal/loadgen":       {},
	"internal/loadgen/bench": {"internal/loadgen", "internal/archive", "node/client", "plugins", "cluster"},
	"node/client":            {},
	"plugins/sdk":            {"plugins/frame"},
	"plugins/runtime":        {"plugins/sdk", "plugins/frame", "plugins/plugintest"},
	"plugins/frame":          {},
	"plugins/plugintest":     {"plugins"},
	"plugins/examples":       {"plugins/sdk", "plugins/plugintest"},
	"cluster/clustertest":    {"cluster", "internal"},
}

type pkg struct {
	ImportPath   string
	Name         string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	GoFiles      []string
}

// list runs go list over patterns and returns what it says of each package.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// rule returns the longest folder of arrows that holds dir.
func rule(dir string) (string, bool) {
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if _, ok := arrows[dir]; ok {
			return dir, true
		}
	}
	return "", false
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

func TestImportsFollowTheArrows(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		folder, ok := rule(from)
		if !ok {
			t.Errorf("%s: no import rule for this folder; add one here and in docs/architecture.md", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			if !ours || within(to, folder) {
				continue
			}
			if !slices.ContainsFunc(arrows[folder], func(a string) bool { return within(to, a) }) {
				t.Errorf("%s imports %s, which the arrows do not allow", from, to)
			}
		}
	}
}

// homes gives each third-party library the folders that may speak to it, so
// that replacing one is a change in one place.
var homes = map[string][]string{
	"github.com/hashicorp/raft":       {"cluster"},
	"github.com/hashicorp/memberlist": {"cluster"},
	"github.com/hashicorp/go-plugin":  {"plugins", "executor"},
	"github.com/spf13/cobra":          {"node/cli", "cmd"},
	"github.com/knadh/koanf":          {"node/cli"},
	"go.etcd.io/bbolt":                {"cluster", "events"},
}

func TestEachLibraryHasOneHome(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imp := range p.Imports {
			for lib, folders := range homes {
				if !within(imp, lib) {
					continue
				}
				if !slices.ContainsFunc(folders, func(f string) bool { return within(from, f) }) {
					t.Errorf("%s imports %s, whose home is %v", from, imp, folders)
				}
			}
		}
	}
}

func TestFunctionsLinkNoHostLibraries(t *testing.T) {
	t.Parallel()
	// A function pays for every linked package at each cold start.
	heavy := []string{"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/hashicorp/go-plugin", "github.com/hashicorp/go-hclog", "github.com/rs/zerolog", "net/http"}
	for _, p := range list(t, "./plugins/sdk/go") {
		for _, dep := range p.Deps {
			for _, h := range heavy {
				if within(dep, h) {
					t.Errorf("the Go SDK links %s", dep)
				}
			}
		}
	}
}

func TestStateIsAPureFunctionOfTheLog(t *testing.T) {
	t.Parallel()
	banned := []string{"os", "net", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "github.com/rs/zerolog", "io/ioutil", "os/exec", "runtime"}
	for _, p := range list(t, "./cluster/state") {
		for _, imp := range p.Imports {
			if slices.Contains(banned, imp) {
				t.Errorf("%s imports %s: replicas would differ", p.ImportPath, imp)
			}
		}
	}
}
