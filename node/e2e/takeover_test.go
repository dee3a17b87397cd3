package e2e

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestDataOfThePreviousReleaseIsTakenOver starts this release on the data directories
// that the one before left: it says the same of everything, opens to the same tokens,
// and goes on.
func TestDataOfThePreviousReleaseIsTakenOver(t *testing.T) {
	t.Parallel()
	if *keep != "" {
		keepPrevious(t, *keep)
	}
	kept, was := t.TempDir(), keptState(t)
	unpackNodes(t, kept)
	c := &cluster{t: t, nodes: []*node{newNode(t, "node-1"), newNode(t, "node-2")}}
	for _, n := range c.nodes {
		n.dir = filepath.Join(kept, n.name)
	}
	meet(t, c.nodes)
	first, second := c.nodes[0], c.nodes[1]
	c.token = adminToken(t, first)
	ids := []string{nodeID(t, first), nodeID(t, second)}
	second.launch() // not ready as long as it drains
	first.start()
	for i, n := range c.nodes {
		if id := c.id(n); id != ids[i] {
			t.Errorf("%s was %s and is %s", n.name, ids[i], id)
		}
	}
	await(t, 30*time.Second, "everything is there", func() error {
		is, err := c.askAll()
		if err != nil {
			return err
		}
		if gone := lacking("", was, is); len(gone) > 0 {
			return errors.New(strings.Join(gone, "\n"))
		}
		return nil
	})
	checkTokens(t, first, keptSecrets(t, kept))

	// The code was not kept, so that the function is deployed anew. It runs on the
	// first node: the second one is drained still.
	v := c.deploy("noted", wire.FunctionSpec{Idempotent: true})
	if v.Number != 4 {
		t.Errorf("version %d follows version 3", v.Number)
	}
	if v := c.deploy("retired", wire.FunctionSpec{}, second); v.Number != 2 {
		t.Errorf("version %d of a name that was used before", v.Number)
	}
	for _, n := range c.nodes {
		reply := mustCall(t, c.client(n), "noted", ledger.Order{Op: ledger.OpNote}, nil)
		if reply.Version != "default/noted:4" || reply.Node != ids[0] {
			t.Errorf("%s ran on %s", reply.Version, reply.Node)
		}
	}
	if err := c.client().Drain(t.Context(), second.name, false); err != nil {
		t.Fatal(err)
	}
	c.runsThere(t, second)
	third := newNode(t, "node-3")
	third.start("--join", c.joinToken())
	c.nodes = append(c.nodes, third)
	c.runsThere(t, third)
	checkLevel(t, c)
}

// keptState is what the previous release said last, as far as it is to be still so.
func keptState(t *testing.T) map[string]any {
	t.Helper()
	path := filepath.Join(previousDir, keptAnswers)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var was map[string]any
	if err := json.Unmarshal(text, &was); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return was
}

func unpackNodes(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(previousDir, keptData))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err == nil {
		err = untar(zip, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func keptSecrets(t *testing.T, dir string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, keptTokens))
	if err != nil {
		t.Fatal(err)
	}
	var secrets map[string]string
	if err := json.Unmarshal(text, &secrets); err != nil {
		t.Fatal(err)
	}
	return secrets
}

// nodeID is the id in a data directory.
func nodeID(t *testing.T, n *node) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "node.json"))
	if err != nil {
		t.Fatal(err)
	}
	var identity struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &identity); err != nil {
		t.Fatal(err)
	}
	return identity.ID
}

// meet writes down for each node where the others are now. All of them have moved to
// other ports at once, after which nobody would find anybody.
func meet(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		var peers []map[string]string
		for _, other := range nodes {
			if other != n {
				peers = append(peers, map[string]string{"id": nodeID(t, other), "peer": other.peer, "gossip": other.gossip})
			}
		}
		if err := os.WriteFile(filepath.Join(n.dir, "peers.json"), indented(t, peers), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// checkTokens tries every token of the archive on what it allows and on what it does not.
func checkTokens(t *testing.T, n *node, secrets map[string]string) {
	t.Helper()
	if len(secrets) == 0 {
		t.Error("no tokens were kept")
	}
	const drain = "/v1/nodes/none/drain"
	for _, tc := range []struct {
		token, method, path string
		want                []int
	}{
		{"read", "GET", "/v1/functions", []int{200}},
		{"read", "DELETE", "/v1/apps/shop/functions/checkout", []int{403}},
		{"invoke", "GET", "/v1/functions", []int{403}},
		{"invoke", "POST", "/v1/functions/absent/invocations", []int{404}},
		{"deploy", "DELETE", "/v1/apps/shop/functions/absent", []int{404}},
		{"deploy", "POST", drain, []int{403}},
		{"shop", "GET", "/v1/apps/shop/functions", []int{200}},
		{"shop", "GET", "/v1/apps/default/functions", []int{403, 404}},
		{"revoked", "GET", "/v1/functions", []int{401}},
	} {
		status, body, err := request(tc.method, n, tc.path, secrets[tc.token])
		if err != nil || !slices.Contains(tc.want, status) {
			t.Errorf("%s %s with token %q: status %d, want %v: %s %v", tc.method, tc.path, tc.token, status, tc.want, body, err)
		}
	}
	if status, _, err := request(http.MethodGet, n, "/v1/functions", "nobody's"); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a token that nobody made: status %d, %v", status, err)
	}
}

// checkLevel waits until the cluster is at this release's feature level.
func checkLevel(t *testing.T, c *cluster) {
	t.Helper()
	await(t, 20*time.Second, "feature level", func() error {
		for _, n := range c.up() {
			s, err := c.status(n)
			if err != nil {
				return err
			}
			if s.FeatureLevel != state.FeatureLevel {
				return fmt.Errorf("%s is at feature level %d, this release knows %d", n.name, s.FeatureLevel, state.FeatureLevel)
			}
		}
		return nil
	})
}
