package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestR10RecoverAfterTwoOfThreeDisksAreLost is row R10: with the documented
// command the node that is left keeps the state, and new machines join it.
func TestR10RecoverAfterTwoOfThreeDisksAreLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.deploy("noted", wire.FunctionSpec{Env: map[string]string{"KEPT": "yes"}})
	c.awaitWhole(3, formTime)
	left := c.others(c.leader())[0]
	mustCall(t, c.client(left), "noted", ledger.Order{Op: ledger.OpNote}, nil) // so it has the code
	for _, n := range c.nodes {
		c.id(n)
	}
	// Whoever holds the first node's disk has the token file, so keep what it said.
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(c.token), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := c.others(left)
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range lost {
		if err := os.RemoveAll(n.dir); err != nil {
			t.Fatal(err)
		}
	}
	flags := []string{"recover", "--data-dir", left.dir, "--name", left.name, "--peer", left.peer, "--gossip", left.gossip, "--advertise", "127.0.0.1"}
	dry := c.covey(flags...)
	for _, n := range lost {
		if !strings.Contains(dry, c.id(n)) {
			t.Errorf("the dry run does not name %s as lost:\n%s", c.id(n), dry)
		}
	}
	left.start() // a dry run changes nothing: still no quorum
	if s, err := c.status(left); err != nil || s.Quorum {
		t.Errorf("after the dry run: %+v, %v", s, err)
	}
	if _, err := covey(append(flags, "--yes")...); err == nil {
		t.Error("recover works on a data directory that a daemon uses")
	}
	left.kill()
	c.covey(append(flags, "--yes")...)
	left.start()
	c.awaitQuorum(left)
	mustCall(t, c.client(left), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	c.deploy("noted", wire.FunctionSpec{}, left)

	// New machines take the places of the lost ones, under ids of their own.
	join := strings.TrimSpace(c.covey("token", "create", "--kind", "join", "--addr", left.api, "--token-file", tokenFile))
	for _, n := range lost {
		n.id = ""
		n.start("--join", join)
	}
	c.awaitWhole(3, formTime)
	nodes, err := c.list(left)
	if err != nil || len(nodes) != 3 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	for _, n := range c.nodes {
		mustCall(t, c.client(n), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	}
}

// TestBackupRestoresIntoANewCluster takes a backup under load and makes another
// cluster of it, with other ids: state, code and tokens are there.
func TestBackupRestoresIntoANewCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.deploy("noted", wire.FunctionSpec{})
	c.deploy("noted", wire.FunctionSpec{TimeoutMS: 5000})
	for _, n := range c.nodes {
		c.id(n)
	}
	keyID, _ := c.accessKey("--description", "ci")
	invokeToken := strings.TrimSpace(c.covey("token", "create", "--scope", "invoke", "--data-dir", c.nodes[0].dir))
	l := startLoad(c, 2, "noted")
	file := filepath.Join(t.TempDir(), "covey.backup")
	await(t, 20*time.Second, "load runs", func() error { return l.ranOn("", time.Time{}) })
	c.covey("backup", file, "--data-dir", c.nodes[0].dir)
	for _, e := range l.finish() {
		if e.err != nil {
			t.Errorf("during the backup: %v", e.err)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the backup, which holds secrets, has mode %v, %v", info.Mode(), err)
	}
	oldCluster, oldVersions := mustStatus(t, c).ClusterID, c.covey("versions", "noted", "-o", "json", "--data-dir", c.nodes[0].dir)
	for _, n := range c.nodes {
		n.kill()
		if err := os.RemoveAll(n.dir); err != nil {
			t.Fatal(err)
		}
	}

	r := &cluster{t: t, nodes: []*node{newNode(t, "restored-1"), newNode(t, "restored-2")}}
	first := r.nodes[0]
	restore := exec.Command(coveyBin, "restore", file, "--data-dir", first.dir, "--name", first.name, "--peer", first.peer, "--gossip", first.gossip, "--advertise", "127.0.0.1")
	restore.Env = environment()
	out, err := restore.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "access key "+keyID+" is gone (ci)") {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	first.start()
	r.token = adminToken(t, first)
	r.nodes[1].start("--join", r.joinToken())
	s := mustStatus(t, r)
	if s.ClusterID == oldCluster || s.Node == c.id(c.nodes[0]) {
		t.Errorf("the restored cluster has old ids: %+v", s)
	}
	if nodes, err := r.list(first); err != nil || len(nodes) != 2 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if now := r.covey("versions", "noted", "-o", "json", "--data-dir", first.dir); now != oldVersions {
		t.Errorf("versions were\n%s\nand are\n%s", oldVersions, now)
	}
	for _, n := range r.nodes {
		mustCall(t, r.client(n), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	}
	limited := &cluster{t: t, nodes: r.nodes, token: invokeToken}
	mustCall(t, limited.client(), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	if _, err := limited.status(first); err == nil {
		t.Error("a token that may only invoke reads the status after the restore")
	}
}

// TestBackupCutShortIsRefused cuts a backup: nothing is founded from it.
func TestBackupCutShortIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.deploy("noted", wire.FunctionSpec{})
	file := filepath.Join(t.TempDir(), "covey.backup")
	c.covey("backup", file, "--data-dir", c.nodes[0].dir)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, keep := range []int{0, 100, len(whole) / 2, len(whole) - 1536} {
		if err := os.WriteFile(file, whole[:keep], 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "data")
		if _, err := covey("restore", file, "--data-dir", dir); err == nil {
			t.Errorf("%d of %d bytes were restored", keep, len(whole))
		}
		if _, err := os.Stat(filepath.Join(dir, "node.json")); err == nil {
			t.Errorf("%d of %d bytes made a node", keep, len(whole))
		}
	}
}
