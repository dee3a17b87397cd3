package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
	"github.com/covey-dev/covey/node/nodetest"
)

// TestLastNodeOfThreeServesAndRefusesChanges kills two voters of three: the
// remaining node answers for every function that it knows, and says that there is
// no quorum when it is asked to deploy.
func TestLastNodeOfThreeServesAndRefusesChanges(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.deploy("noted", wire.FunctionSpec{})
	v := c.deploy("never-called", wire.FunctionSpec{}) // its code comes to the third owner by itself
	c.awaitWhole(3, formTime)
	leader := c.leader()
	last := c.others(leader)[0]
	cl := c.once(last)
	mustCall(t, cl, "noted", ledger.Order{Op: ledger.OpNote}, nil)
	nodetest.AwaitCode(t, v, last.dir)
	for _, n := range c.others(last) {
		n.kill()
	}
	lost := time.Now()
	for range 20 {
		mustCall(t, c.client(last), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	}
	mustCall(t, c.client(last), "never-called", ledger.Order{Op: ledger.OpNote}, nil)
	t.Logf("21 calls within %v of the loss", time.Since(lost))
	refusesChanges(t, c, last)
	if _, err := covey("status", "--addr", last.api, "--token-file", c.nodes[0].dir+"/admin.token"); err == nil || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("status says nothing of the quorum: %v", err)
	}
	// One voter back makes a quorum; nothing needs to be told.
	back := c.nodes[0]
	if back == last {
		back = c.nodes[1]
	}
	back.start()
	c.awaitQuorum(last)
	c.deploy("noted", wire.FunctionSpec{}, last)
}

// refusesChanges wants a clear and bounded refusal of a deploy.
func refusesChanges(t *testing.T, c *cluster, n *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	begun := time.Now()
	_, err := c.once(n).Deploy(ctx, "default", "noted", wire.DeployRequest{FunctionSpec: wire.FunctionSpec{
		Artifacts: []wire.Artifact{{OS: "linux", Arch: "amd64", Digest: "sha256:" + strings.Repeat("0", 64), Size: 1}},
	}})
	if p := problem(err); p == nil || p.Code != wire.CodeNoQuorum || !strings.Contains(p.Detail, "quorum") {
		t.Errorf("deploy without a quorum, after %v: %v", time.Since(begun).Round(time.Millisecond), err)
	}
	// People deploy code that is not there yet, through the command.
	program := filepath.Join(t.TempDir(), "new")
	text, err := os.ReadFile(functionBin)
	if err == nil {
		err = os.WriteFile(program, append(text, "new code"...), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{functionBin, program} {
		begun := time.Now()
		_, err := covey("deploy", "noted", code, "--addr", n.api, "--token-file", c.nodes[0].dir+"/admin.token")
		if err == nil || !strings.Contains(err.Error(), "no_quorum") {
			t.Errorf("covey deploy without a quorum: %v", err)
		}
		t.Logf("covey deploy refused after %v: %v", time.Since(begun).Round(time.Millisecond), err)
	}
}

func (c *cluster) awaitQuorum(n *node) {
	c.t.Helper()
	await(c.t, 30*time.Second, "quorum at "+n.name, func() error {
		s, err := c.status(n)
		if err == nil && !s.Quorum {
			err = errors.New("no quorum")
		}
		return err
	})
}

// TestObserverRestartedWithoutQuorumServes restarts a node that never was a
// member of Raft while no quorum exists, on other addresses: it serves what it knew.
func TestObserverRestartedWithoutQuorumServes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 6)                             // three voters, two standbys, one observer
	v := c.deploy("noted", wire.FunctionSpec{Min: 6}) // one instance on each node
	var observer *node
	voters := map[string]bool{}
	await(t, formTime, "roles of six nodes", func() error {
		nodes, err := c.list(c.nodes[0])
		if err != nil {
			return err
		}
		count := map[string]int{}
		clear(voters)
		for _, n := range nodes {
			count[n.Role]++
			switch n.Role {
			case "voter":
				voters[n.ID] = true
			case "observer":
				for _, own := range c.nodes {
					if own.name == n.Name {
						observer = own
					}
				}
			}
		}
		if count["voter"] != 3 || count["standby"] != 2 || count["observer"] != 1 {
			return fmt.Errorf("roles %v", count)
		}
		return nil
	})
	nodetest.AwaitCode(t, v, observer.dir)
	index := func(n *node) uint64 {
		s, err := c.status(n)
		if err != nil {
			t.Fatal(err)
		}
		return s.Index
	}
	before := index(c.leader())
	await(t, 10*time.Second, "observer follows", func() error {
		if got := index(observer); got < before {
			return fmt.Errorf("at %d, leader at %d", got, before)
		}
		return nil
	})
	c.id(observer)
	for _, n := range c.others(observer) {
		n.kill()
	}
	observer.kill()
	observer.move()
	observer.start()
	reply := mustCall(t, c.client(observer), "noted", ledger.Order{Op: ledger.OpNote}, nil)
	if reply.Node != c.id(observer) {
		t.Errorf("ran on %s", reply.Node)
	}
	if got := index(observer); got < before {
		t.Errorf("restarted at index %d, knew %d", got, before)
	}
	if s, err := c.status(observer); err != nil || s.Quorum || s.Role != "observer" {
		t.Errorf("status %+v, %v", s, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := c.once(observer).PutAlias(ctx, "default", "noted", "x", wire.AliasChange{Version: 1}, 0)
	if !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("a write without a quorum: %v", err)
	}
}

// TestR3ResumedLeaderServesNoStaleRead is row R3: a leader whose machine hung
// while another was elected does not answer a read from its old state.
func TestR3ResumedLeaderServesNoStaleRead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	v1 := c.deploy("noted", wire.FunctionSpec{})
	c.awaitWhole(3, formTime)
	rounds := 2
	if soak() {
		rounds = 50
	}
	for range rounds {
		old := c.leader()
		old.pause()
		rest := c.client(c.others(old)...)
		var revision uint64
		await(t, 30*time.Second, "a new leader takes a write", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			alias, err := rest.PutAlias(ctx, "default", "noted", "probe", wire.AliasChange{Version: v1.Number}, 0)
			if err == nil {
				revision = alias.Revision
			}
			return err
		})
		old.resume()
		// From the first moment on: fresh, or an error, but never old.
		fresh := 0
		await(t, 30*time.Second, "fresh reads from "+old.name, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			got, err := c.consistentRevision(ctx, old)
			if err != nil {
				return err
			}
			if got < revision {
				t.Fatalf("%s answered revision %d after %d was written", old.name, got, revision)
			}
			if fresh++; fresh < 5 {
				return errors.New("a few more")
			}
			return nil
		})
		c.awaitWhole(3, 30*time.Second)
	}
}

// consistentRevision reads the revision of the alias "probe" of "noted" from one
// node, by a read that no acknowledged write may be missing from.
func (c *cluster) consistentRevision(ctx context.Context, n *node) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.api+"/v1/apps/default/functions/noted/aliases?consistent=true", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var aliases wire.List[wire.Alias]
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("read aliases: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&aliases); err != nil {
		return 0, err
	}
	for _, a := range aliases.Items {
		if a.Name == "probe" {
			return a.Revision, nil
		}
	}
	return 0, nil // not there: revision 0 is older than any
}
