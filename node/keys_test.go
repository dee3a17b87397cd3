package node_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/loopback"
	corenode "github.com/covey-dev/covey/node"
	"github.com/covey-dev/covey/node/access/sigv4/sigv4test"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
)

// newKey makes an access key through a node.
func newKey(t testing.TB, c *nodetest.Cluster, n *nodetest.Node) sigv4test.Signer {
	t.Helper()
	cl := c.Client(n)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	key, err := cl.CreateToken(ctx, wire.TokenRequest{Kind: wire.KindAWSKey, Description: "for a test"})
	if err != nil {
		t.Fatalf("make access key through %s: %v", n.Config.Name, err)
	}
	return sigv4test.Signer{ID: key.ID, Secret: key.Secret}
}

// signedCall calls a function that does not exist: 404 says that the node has
// verified the signature.
func signedCall(t testing.TB, n *nodetest.Node, key sigv4test.Signer) (status int, kind string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	body := []byte("{}")
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+n.APIAddr().String()+"/2015-03-31/functions/none/invocations", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	key.Sign(r, body)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("call %s: %v", n.Config.Name, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("X-Amzn-Errortype")
}

// awaitCall waits until a node answers a signed call with a status.
func awaitCall(t testing.TB, n *nodetest.Node, key sigv4test.Signer, want int) {
	t.Helper()
	nodetest.Await(t, 20*time.Second, func() error {
		if got, kind := signedCall(t, n, key); got != want {
			return fmt.Errorf("%s answers %d %s, want %d", n.Config.Name, got, kind, want)
		}
		return nil
	})
}

// TestAccessKeysWorkOnNodesThatHoldNoSecrets: of two nodes one votes and can open
// secrets; the other asks it.
func TestAccessKeysWorkOnNodesThatHoldNoSecrets(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	voter, standby := c.Nodes[0], c.Nodes[1]
	if voter.Cluster().KEK() == nil || standby.Cluster().KEK() != nil {
		t.Fatal("the wrong node holds the key-encryption key")
	}
	known, fresh := newKey(t, c, standby), newKey(t, c, voter)
	for _, n := range c.Nodes {
		awaitCall(t, n, known, http.StatusNotFound)
		wrong := known
		wrong.Secret = fresh.Secret
		if status, kind := signedCall(t, n, wrong); status != http.StatusForbidden || kind != "InvalidSignatureException" {
			t.Errorf("%s takes a wrong secret with %d %s", n.Config.Name, status, kind)
		}
	}
	nodetest.Await(t, 20*time.Second, func() error {
		if standby.Cluster().View().Token(state.TokenID(fresh.ID)) == nil {
			return errors.New("the standby does not know the new key yet")
		}
		return nil
	})

	// Without a voter the standby goes on with the key that it knows, and says of
	// another that it cannot tell.
	voter.Stop()
	if status, kind := signedCall(t, standby, known); status != http.StatusNotFound {
		t.Errorf("a known key alone: %d %s", status, kind)
	}
	if status, kind := signedCall(t, standby, fresh); status != http.StatusServiceUnavailable || kind != "ServiceException" {
		t.Errorf("an unknown key alone: %d %s", status, kind)
	}
	voter.Start()
	awaitCall(t, standby, fresh, http.StatusNotFound)

	cl := c.Client(voter)
	defer cl.Close()
	nodetest.Await(t, 30*time.Second, func() error { return cl.RevokeToken(t.Context(), known.ID) })
	awaitCall(t, standby, known, http.StatusForbidden)
	awaitCall(t, voter, known, http.StatusForbidden)
	awaitCall(t, standby, fresh, http.StatusNotFound)
}

// TestSecretsOfAccessKeysAreNowhere looks for a secret in all that the nodes keep
// and in a backup, and restores that backup, which leaves the key out.
func TestSecretsOfAccessKeysAreNowhere(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 2)
	key := newKey(t, c, c.Nodes[1])
	for _, n := range c.Nodes {
		awaitCall(t, n, key, http.StatusNotFound)
	}
	var backup bytes.Buffer
	cl := c.Client()
	defer cl.Close()
	if err := cl.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(backup.Bytes(), []byte(key.ID)) {
		t.Error("the backup does not know the access key")
	}
	for _, n := range c.Nodes {
		n.Stop()
	}
	raw, err := base64.StdEncoding.DecodeString(key.Secret)
	if err != nil {
		t.Fatal(err)
	}
	holds := func(data []byte) bool { return bytes.Contains(data, []byte(key.Secret)) || bytes.Contains(data, raw) }
	if holds(backup.Bytes()) {
		t.Error("the secret is in the backup")
	}
	named := 0
	for _, n := range c.Nodes {
		err := filepath.WalkDir(n.Config.DataDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if holds(data) {
				t.Errorf("the secret is in %s", strings.TrimPrefix(path, n.Config.DataDir))
			}
			if bytes.Contains(data, []byte(key.ID)) {
				named++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if named == 0 {
		t.Error("nothing on disk knows the access key: the search proves nothing")
	}

	cfg := corenode.DefaultConfig()
	cfg.DataDir, cfg.Name, cfg.Advertise, cfg.Logger = filepath.Join(t.TempDir(), "restored"), "restored", "127.0.0.1", nodetest.Logger(t)
	cfg.API, cfg.Peer, cfg.Gossip = loopback.Address(t), loopback.Address(t), loopback.Address(t)
	restored, err := corenode.Restore(t.Context(), cfg, &backup)
	if err != nil {
		t.Fatal(err)
	}
	if restored.AdminToken == "" || len(restored.LostKeys) != 1 || string(restored.LostKeys[0].ID) != key.ID || restored.LostKeys[0].Description != "for a test" {
		t.Errorf("restored as %+v", restored)
	}
}
