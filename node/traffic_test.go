package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/nodetest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// steady is a function of which all versions of a test fit into a node's memory, and
// which a machine that is busy with other tests does not fail.
func steady() wire.FunctionSpec {
	return wire.FunctionSpec{MemoryBytes: 32 << 20, StartTimeoutMS: 120_000, TimeoutMS: 120_000, Idempotent: true}
}

// successor deploys the same code again as a version that no alias names.
func successor(t *testing.T, cl *client.Client, v *wire.Version, env map[string]string) uint64 {
	t.Helper()
	spec := v.Spec
	spec.Env = env
	next, err := cl.Deploy(t.Context(), v.App, v.Function, wire.DeployRequest{FunctionSpec: spec, KeepLive: true})
	if err != nil {
		t.Fatal(err)
	}
	return next.Number
}

// warmOn returns the names of the nodes that have instances of a version.
func warmOn(ctx context.Context, cl *client.Client, function string, version uint64) (map[string]int, error) {
	f, err := cl.Function(ctx, "default", function)
	if err != nil {
		return nil, err
	}
	on := map[string]int{}
	for _, at := range f.Placements {
		if at.Version == version && at.Instances > 0 {
			on[at.Name] = at.Instances
		}
	}
	return on, nil
}

func TestNewVersionIsWarmWhereTheOldOneIs(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	cl := c.Client(c.Nodes[0])
	defer cl.Close()
	spec := steady()
	spec.Min = 3
	v := deploy(t, c, "steady", "conformance", spec)
	var old map[string]int
	nodetest.Await(t, 60*time.Second, func() (err error) {
		if old, err = warmOn(t.Context(), cl, "steady", v.Number); err == nil && len(old) != 3 {
			err = fmt.Errorf("warm on %v, want three nodes", old)
		}
		return err
	})
	next := successor(t, cl, v, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var last *wire.WarmReport
	if err := cl.WarmUp(ctx, "default", "steady", next, wire.WarmRequest{}, func(r *wire.WarmReport) { last = r }); err != nil {
		t.Fatal(err)
	}
	if len(last.Nodes) != 3 || !last.Ready {
		t.Errorf("report %+v", last)
	}
	for _, at := range last.Nodes {
		if at.Ready < at.Wanted || at.Wanted < 1 {
			t.Errorf("%s: %+v", at.Name, at)
		}
	}
	for _, entry := range c.Nodes {
		at := c.Client(entry)
		call := order("steady", program.Input{Op: program.OpEcho})
		call.Qualifier = fmt.Sprint(next)
		if reply, err := at.Invoke(t.Context(), call); err != nil || reply.Cold {
			t.Errorf("first call through %s: %+v, %v", entry.Config.Name, reply, err)
		}
		at.Close()
	}
}

func TestVersionThatDoesNotInitialiseIsNotWarm(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 1)
	cl := c.Client()
	defer cl.Close()
	v := deploy(t, c, "steady", "conformance", steady())
	broken := successor(t, cl, v, map[string]string{program.EnvInit: program.InitError})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err := cl.WarmUp(ctx, "default", "steady", broken, wire.WarmRequest{Instances: 1}, nil)
	if !errors.Is(err, client.ErrNotWarm) || ctx.Err() != nil || !strings.Contains(err.Error(), "node-1 has 0 of 1 instances") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	f, err := cl.Function(t.Context(), "default", "steady")
	if err != nil || f.Live != v.Number {
		t.Errorf("live is %d: %v", f.Live, err)
	}
}

// traffic is a stream of calls, and which versions may answer them.
type traffic struct {
	cluster *nodetest.Cluster
	http    http.Client

	mu      sync.Mutex
	allowed [][]uint64 // guarded by mu; by epoch, what may answer a call within it
	calls   atomic.Int64
	answers sync.Map // version → true
}

// epoch begins a time in which these versions may answer.
func (tr *traffic) epoch(versions ...uint64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.allowed = append(tr.allowed, versions)
}

// call makes one call through a node, without the client library, which would send it
// again if it could.
func (tr *traffic) call(ctx context.Context, entry *nodetest.Node) error {
	body, err := json.Marshal(program.Input{Op: program.OpEcho})
	if err != nil {
		return err
	}
	tr.mu.Lock()
	first := len(tr.allowed) - 1
	tr.mu.Unlock()
	url := "http://" + entry.APIAddr().String() + "/v1/functions/steady/invocations"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+tr.cluster.Token)
	resp, err := tr.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s: %w", resp.StatusCode, answer, err)
	}
	key, err := state.ParseVersionKey(resp.Header.Get(wire.HeaderVersion))
	if err != nil {
		return err
	}
	tr.mu.Lock()
	may := slices.Concat(tr.allowed[first:]...)
	tr.mu.Unlock()
	if !slices.Contains(may, uint64(key.Number)) {
		return fmt.Errorf("version %d answered, want one of %v", key.Number, may)
	}
	tr.answers.Store(uint64(key.Number), true)
	tr.calls.Add(1)
	return nil
}

// flow waits until some more calls were answered.
func (tr *traffic) flow(t *testing.T) {
	t.Helper()
	from := tr.calls.Load()
	nodetest.Await(t, 60*time.Second, func() error {
		if n := tr.calls.Load() - from; n < 40 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
}

// turn moves "live" while calls flow: until every node knows of it, the old versions may
// answer as well.
func (tr *traffic) turn(t *testing.T, move func() (*wire.Alias, error), old, next []uint64) {
	t.Helper()
	tr.epoch(slices.Concat(old, next)...)
	alias, err := move()
	if err != nil {
		t.Fatal(err)
	}
	nodetest.Await(t, 60*time.Second, func() error {
		for _, n := range tr.cluster.Nodes {
			a := n.Cluster().View().Function("default", "steady").Alias(state.Live)
			if a.Revision < alias.Revision {
				return fmt.Errorf("%s is at revision %d of %d", n.Config.Name, a.Revision, alias.Revision)
			}
		}
		return nil
	})
	tr.epoch(next...)
	tr.flow(t)
}

func TestNoCallFailsWhileVersionsChange(t *testing.T) {
	t.Parallel()
	c := nodetest.Start(t, 3)
	cl := c.Client()
	defer cl.Close()
	v := deploy(t, c, "steady", "conformance", steady())
	tr := &traffic{cluster: c}
	tr.epoch(v.Number)
	nodetest.Await(t, 60*time.Second, func() error { // every node has heard of it
		for _, n := range c.Nodes {
			if n.Cluster().View().Function("default", "steady") == nil {
				return errors.New("not everywhere")
			}
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for ctx.Err() == nil {
				// A call that is under way at the end is finished, not cut.
				if err := tr.call(t.Context(), c.Nodes[i%len(c.Nodes)]); err != nil {
					t.Errorf("through %s: %v", c.Nodes[i%len(c.Nodes)].Config.Name, err)
					return
				}
			}
		})
	}
	defer callers.Wait()
	defer cancel()
	tr.flow(t)

	put := func(change wire.AliasChange) func() (*wire.Alias, error) {
		return func() (*wire.Alias, error) { return cl.PutAlias(t.Context(), "default", "steady", "live", change, 0) }
	}
	back := func() (*wire.Alias, error) {
		return cl.Rollback(t.Context(), "default", "steady", wire.RollbackRequest{})
	}
	live := v.Number
	for range 2 {
		// A version in the cold, one after a warm-up, weights, and back.
		cold := successor(t, cl, v, nil)
		tr.turn(t, put(wire.AliasChange{Version: cold}), []uint64{live}, []uint64{cold})
		warm := successor(t, cl, v, map[string]string{"A": "1"})
		within, stop := context.WithTimeout(t.Context(), 60*time.Second)
		err := cl.WarmUp(within, "default", "steady", warm, wire.WarmRequest{}, nil)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		tr.turn(t, put(wire.AliasChange{Version: cold, Other: warm, OtherWeight: 0.1}), []uint64{cold}, []uint64{cold, warm})
		tr.turn(t, put(wire.AliasChange{Version: cold, Other: warm, OtherWeight: 0.6}), []uint64{cold, warm}, []uint64{cold, warm})
		tr.turn(t, put(wire.AliasChange{Version: warm}), []uint64{cold, warm}, []uint64{warm})
		tr.turn(t, back, []uint64{warm}, []uint64{cold})
		live = cold
	}
	for n := range live + 1 { // the second rollback's target is the newest but one
		if _, ok := tr.answers.Load(n + 1); !ok {
			t.Errorf("version %d never answered", n+1)
		}
	}
	t.Logf("%d calls", tr.calls.Load())
}
