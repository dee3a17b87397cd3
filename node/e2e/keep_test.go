package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
	"github.com/covey-dev/covey/node/nodetest"
)

// keep is set by `scripts/keep-previous`.
var keep = flag.String("keep", "", "commit whose release fills testdata/previous anew")

// The files of testdata/previous.
const (
	keptData    = "data.tar.gz"  // the folders node-1 and node-2, and keptTokens
	keptAnswers = "answers.json" // what the cluster said of itself at its end
	keptTokens  = "tokens.json"  // the secrets of tokens, by what they are for
)

// keepPrevious lets the release of a commit make a cluster of two nodes, with
// something of everything that a data directory holds, and keeps the directories and
// what the API says about them.
func keepPrevious(t *testing.T, commit string) {
	old := newRelease(t, commit)
	c := &cluster{t: t, nodes: []*node{old.node(t, "node-1"), old.node(t, "node-2")}}
	first, second := c.nodes[0], c.nodes[1]
	first.start("--init")
	c.token = adminToken(t, first)
	second.start("--join", c.joinToken())
	await(t, formTime, second.name+" stands by", func() error { // and so has a log
		s, err := c.status(second)
		if err == nil && s.Role != "standby" {
			err = fmt.Errorf("is %s", s.Role)
		}
		return err
	})
	tokens := c.fill(old)
	c.fillLog()
	for _, n := range c.nodes { // what was used until now is committed, as that of an earlier boot
		n.stop()
		n.start()
	}
	await(t, 60*time.Second, "usage is committed", func() error {
		for _, n := range c.nodes {
			if text, err := os.ReadFile(filepath.Join(n.dir, "usage.journal")); err != nil || len(text) > 0 {
				return fmt.Errorf("journal of %s: %s %w", n.name, text, err)
			}
		}
		return nil
	})
	c.use("noted", 3)
	if err := c.client().Drain(t.Context(), second.name, true); err != nil {
		t.Fatal(err)
	}
	await(t, 20*time.Second, "drained", func() error { return settled(c, second) })
	answers := c.answers()
	second.stop()
	first.stop()

	if err := os.MkdirAll(previousDir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(previousDir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("commit", []byte(old.commit+"\n"))
	write(keptAnswers, indented(t, answers))
	packed, err := packNodes(filepath.Join(previousDir, keptData), indented(t, tokens), c.nodes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kept %s of %s in %d bytes", previousDir, old.commit, packed)
}

func indented(t *testing.T, v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// fill makes functions, versions, aliases, limits, tokens and usage, and returns the
// tokens' secrets.
func (c *cluster) fill(old *release) map[string]string {
	t, cl := c.t, c.client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	queue := uint32(3)
	for _, spec := range []wire.FunctionSpec{
		{Idempotent: true, Env: map[string]string{"GREETING": "hello"}, Labels: map[string]string{"team": "birds"}},
		{MemoryBytes: 64 << 20, TimeoutMS: 5000, StartTimeoutMS: 7000, Concurrency: 4, Queue: &queue, Max: 4, IdleTTLMS: 60_000},
		{Idempotent: true, MinSandbox: 1, Description: "the newest"},
	} {
		nodetest.Deploy(t, cl, "noted", old.function, spec)
	}
	_, err := cl.PutAlias(t.Context(), "default", "noted", "canary", wire.AliasChange{Version: 3, Description: "try it"}, 0)
	must(err)
	_, err = cl.PutAlias(t.Context(), "default", "noted", "mixed", wire.AliasChange{Version: 1, Other: 3, OtherWeight: 0.25}, 0)
	must(err)
	_, err = cl.Rollback(t.Context(), "default", "noted", wire.RollbackRequest{Version: 1})
	must(err)
	// Its number goes on when the name is used again.
	nodetest.Deploy(t, cl, "retired", old.function, wire.FunctionSpec{})
	must(cl.DeleteFunction(t.Context(), "default", "retired"))
	for range 3 {
		v, err := cl.Versions(t.Context(), "default", "noted")
		must(err)
		_, err = cl.Deploy(t.Context(), "shop", "checkout", wire.DeployRequest{
			FunctionSpec: wire.FunctionSpec{Artifacts: v[0].Spec.Artifacts}, KeepLive: true,
		})
		must(err)
	}
	must(cl.DeleteVersion(t.Context(), "shop", "checkout", 2))
	must(cl.PutLimits(t.Context(), "shop", wire.Limits{Functions: 2, MemoryBytes: 512 << 20, TimeoutMS: 60_000, Concurrency: 50}))

	secrets := map[string]string{}
	for name, in := range map[string]wire.TokenRequest{
		"read":    {Scopes: []string{wire.ScopeRead}},
		"invoke":  {Scopes: []string{wire.ScopeInvoke}},
		"deploy":  {Scopes: []string{wire.ScopeDeploy}},
		"shop":    {Scopes: []string{wire.ScopeRead, wire.ScopeInvoke}, App: "shop"},
		"revoked": {Scopes: []string{wire.ScopeAdmin}},
	} {
		in.TTLSeconds, in.Description = -1, name
		token, err := cl.CreateToken(t.Context(), in)
		must(err)
		secrets[name] = token.Secret
		if name == "revoked" {
			must(cl.RevokeToken(t.Context(), token.ID))
		}
	}
	c.use("noted", 5)
	for range 2 {
		_, err := cl.Invoke(t.Context(), &client.Call{App: "shop", Function: "checkout", Body: []byte(`{"op":"` + ledger.OpNote + `"}`)})
		must(err)
	}
	return secrets
}

// fillLog deploys until the nodes have made snapshots of their state, of which each
// has two kinds.
func (c *cluster) fillLog() {
	t, cl := c.t, c.client()
	versions, err := cl.Versions(t.Context(), "default", "noted")
	if err != nil {
		t.Fatal(err)
	}
	long := map[string]string{"LONG": strings.Repeat("long ", 6<<10)}
	spec := wire.FunctionSpec{Artifacts: versions[0].Spec.Artifacts, Env: long, Labels: long}
	const callers, each = 4, 75 // more than 16 MiB
	var group errgroup.Group
	for range callers {
		group.Go(func() error {
			for range each {
				if _, err := cl.Deploy(t.Context(), "default", "many", wire.DeployRequest{FunctionSpec: spec}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	await(t, 60*time.Second, "snapshots", func() error {
		for _, n := range c.nodes {
			for _, pattern := range []string{"state/snapshot", "raft/control/snapshots/*/meta.json"} {
				if found, err := filepath.Glob(filepath.Join(n.dir, pattern)); err != nil || len(found) == 0 {
					return fmt.Errorf("%s has no %s: %v", n.name, pattern, err)
				}
			}
		}
		return nil
	})
}

// use calls a function through each node in turn.
func (c *cluster) use(function string, times int) {
	for i := range times {
		mustCall(c.t, c.client(c.nodes[i%len(c.nodes)]), function, ledger.Order{Op: ledger.OpNote}, nil)
	}
}

// packNodes writes the data directories of nodes that have stopped to an archive. Code
// and logs are left out: they make most of the size.
func packNodes(path string, tokens []byte, nodes ...*node) (size int64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zip, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	out := tar.NewWriter(zip)
	add := func(name string, mode fs.FileMode, content []byte) error {
		err := out.WriteHeader(&tar.Header{Name: name, Mode: int64(mode), Size: int64(len(content))})
		if err == nil {
			_, err = out.Write(content)
		}
		return err
	}
	if err := add(keptTokens, 0o600, tokens); err != nil {
		return 0, err
	}
	for _, n := range nodes {
		err := fs.WalkDir(os.DirFS(n.dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			switch {
			case name == "blobs" || name == "logs":
				return fs.SkipDir
			case !d.Type().IsRegular() || name == "raft/control/reserve": // of 64 MiB, and made again
				return nil
			}
			content, err := os.ReadFile(filepath.Join(n.dir, name))
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return add(n.name+"/"+name, info.Mode().Perm(), content)
		})
		if err != nil {
			return 0, err
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// settled tells whether a node that drains has nothing left to do.
func settled(c *cluster, n *node) error {
	nodes, err := c.list(c.nodes[0])
	for _, s := range nodes {
		if s.Name == n.name && (!s.Draining || s.Instances+s.InFlight+s.Queued > 0) {
			err = fmt.Errorf("draining %v, %d instances, %d calls", s.Draining, s.Instances, s.InFlight)
		}
	}
	return err
}
