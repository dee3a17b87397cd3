package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// fakeNode stands in for a node: its control state is the real state machine
// without Raft, the rest is functions that a test sets.
type fakeNode struct {
	t     testing.TB
	store *state.Store

	mu      sync.Mutex
	index   state.Index              // guarded by mu
	secrets map[state.TokenID]string // guarded by mu; of access keys

	dayErr error // what DayKey fails with

	propose   error // what Propose fails with
	invoke    func(ctx context.Context, req *invoke.Request) (*invoke.Response, error)
	logs      func(ctx context.Context, query LogQuery) iter.Seq2[LogLine, error]
	top       func(ctx context.Context, query TopQuery) iter.Seq[Top]
	explain   func(id string) (*invoke.Record, error)
	backup    func(w io.Writer) error
	checks    []Check
	drained   map[state.NodeID]bool
	removed   []state.NodeID
	usageAsks []UsageQuery
	uploaded  []byte

	admin, deployer, invoker, reader, billing string // secrets
}

func (n *fakeNode) View() *state.View                               { return n.store.View() }
func (n *fakeNode) Consistent(context.Context) (*state.View, error) { return n.store.View(), n.propose }

func (n *fakeNode) Nodes(context.Context) []NodeStatus { return []NodeStatus{{ID: "n1", Name: "one"}} }

func (n *fakeNode) Warm(_ context.Context, v *state.Version, like []state.VersionNumber, in wire.WarmRequest) wire.WarmReport {
	return wire.WarmReport{Version: uint64(v.Key.Number), Ready: len(like) > 0, Nodes: []wire.WarmNode{{Node: "n1", Wanted: in.Instances}}}
}
func (n *fakeNode) Status(context.Context) Status { return Status{ClusterID: "c", Quorum: true} }
func (n *fakeNode) Ready(context.Context) []Check { return n.checks }
func (n *fakeNode) Logs(ctx context.Context, q LogQuery) iter.Seq2[LogLine, error] {
	return n.logs(ctx, q)
}

func (n *fakeNode) Explain(_ context.Context, id string) (*invoke.Record, error) {
	return n.explain(id)
}
func (n *fakeNode) Backup(_ context.Context, w io.Writer) error { return n.backup(w) }

func (n *fakeNode) Invoke(ctx context.Context, req *invoke.Request) (*invoke.Response, error) {
	return n.invoke(ctx, req)
}

func (n *fakeNode) Put(_ context.Context, r io.Reader) (string, int64, error) {
	raw, err := io.ReadAll(r)
	n.uploaded = raw
	return "sha256:" + strings.Repeat("ab", 32), int64(len(raw)), err
}

func (n *fakeNode) Drain(_ context.Context, id state.NodeID, on bool) error {
	n.drained[id] = on
	return nil
}

func (n *fakeNode) Remove(_ context.Context, id state.NodeID) error {
	n.removed = append(n.removed, id)
	return nil
}

func (n *fakeNode) Usage(_ context.Context, q UsageQuery) (UsageReport, error) {
	n.usageAsks = append(n.usageAsks, q)
	return UsageReport{Missing: []string{"n2"}}, nil
}

func (n *fakeNode) Top(ctx context.Context, q TopQuery) iter.Seq[Top] { return n.top(ctx, q) }

func (n *fakeNode) JoinToken(_ context.Context, ttl time.Duration, uses int) (string, error) {
	return fmt.Sprintf("K10-%v-%d", ttl, uses), nil
}

func (n *fakeNode) Propose(_ context.Context, cmd *clusterpb.Command) (*clusterpb.Result, error) {
	if n.propose != nil {
		return nil, n.propose
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index++
	cmd.Level, cmd.TimeUnixMs = 1, time.Now().UnixMilli()
	data, err := state.Encode(cmd)
	if err != nil {
		return nil, err
	}
	return n.store.Apply(n.index, data)
}

// Seal and DayKey keep secrets as a voter does, without encrypting them.
func (n *fakeNode) Seal(_ context.Context, id state.TokenID, secret string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.secrets[id] = secret
	return []byte("sealed"), n.propose
}

func (n *fakeNode) DayKey(_ context.Context, key *state.Token, day string) (sigv4.Key, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return sigv4.DayKey(n.secrets[key.ID], day), n.dayErr
}

// must applies a command that the test needs to have held.
func (n *fakeNode) must(cmd *clusterpb.Command) {
	n.t.Helper()
	result, err := n.Propose(context.Background(), cmd)
	if err == nil {
		err = state.Refused(result)
	}
	if err != nil {
		n.t.Fatalf("apply %T: %v", cmd.GetOp(), err)
	}
}

// token adds an API token and returns its secret.
func (n *fakeNode) token(id, app string, scopes ...clusterpb.Scope) string {
	secret := access.NewSecret()
	hash := access.HashOf(secret)
	n.must(&clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: &clusterpb.Token{
		Id: id, Hash: hash[:], Kind: clusterpb.TokenKind_TOKEN_KIND_API, Scopes: scopes, App: app,
	}}}})
	return secret
}

// accessKey adds an access key with a secret made of its id.
func (n *fakeNode) accessKey(id, app string, change func(*clusterpb.Token), scopes ...clusterpb.Scope) (secret string) {
	secret = "secret of " + id
	sealed, err := n.Seal(context.Background(), state.TokenID(id), secret)
	if err != nil {
		n.t.Fatal(err)
	}
	token := &clusterpb.Token{Id: id, Sealed: sealed, Kind: clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY, Scopes: scopes, App: app}
	if change != nil {
		change(token)
	}
	n.must(&clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: token}}})
	return secret
}

// function deploys a version.
func (n *fakeNode) function(app, name string, idempotent bool) {
	n.must(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{
		App: app, Name: name, Config: state.WithDefaults(&clusterpb.VersionConfig{
			Runtime: "go", Idempotent: idempotent,
			Env:       map[string]string{"SECRET": "hunter2"},
			Artifacts: []*clusterpb.Artifact{{Os: "linux", Arch: "amd64", Digest: testDigest, Size: 3}},
		}),
	}}})
}

const (
	testDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	testNode   = "6fd0c5cf-2f5d-4e6b-9b05-0a1d3d7f6a01"
)

func newFakeNode(t testing.TB) *fakeNode {
	t.Helper()
	n := &fakeNode{t: t, store: state.New(), drained: map[state.NodeID]bool{}, secrets: map[state.TokenID]string{}}
	n.must(&clusterpb.Command{Op: &clusterpb.Command_FoundCluster{FoundCluster: &clusterpb.FoundCluster{
		ClusterId: "0b1c5a1e-58a0-4a2d-8f0e-1c1f3c1d2e3f", FeatureLevel: state.FeatureLevel,
	}}})
	n.must(&clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: &clusterpb.Member{
		Id: testNode, Name: "one", ApiAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:2", GossipAddress: "127.0.0.1:3",
		Os: "linux", Arch: "amd64", Cpus: 2, MemoryBytes: 1 << 30, Runtimes: []string{"go"}, FeatureLevel: state.FeatureLevel,
	}}}})
	n.function("default", "echo", false)
	n.function("default", "idem", true)
	n.function("billing", "charge", false)
	n.admin = n.token("admin", "", clusterpb.Scope_SCOPE_ADMIN)
	n.deployer = n.token("deployer", "", clusterpb.Scope_SCOPE_DEPLOY)
	n.invoker = n.token("invoker", "", clusterpb.Scope_SCOPE_INVOKE)
	n.reader = n.token("reader", "", clusterpb.Scope_SCOPE_READ)
	n.billing = n.token("billing", "billing", clusterpb.Scope_SCOPE_ADMIN)
	n.invoke = echo
	n.logs = func(context.Context, LogQuery) iter.Seq2[LogLine, error] {
		return func(func(LogLine, error) bool) {}
	}
	n.top = func(context.Context, TopQuery) iter.Seq[Top] { return func(func(Top) bool) {} }
	n.explain = func(string) (*invoke.Record, error) { return nil, invoke.ErrNotFound }
	n.backup = func(w io.Writer) error {
		_, err := io.WriteString(w, "backup")
		return err
	}
	return n
}

// echo answers with the body it got, as version 1 of whatever was called.
func echo(_ context.Context, req *invoke.Request) (*invoke.Response, error) {
	return answer(req, req.Body), nil
}

func answer(req *invoke.Request, body []byte) *invoke.Response {
	return &invoke.Response{
		RequestID: req.ID, Body: body, ContentType: req.ContentType, Node: testNode, Attempts: 1,
		Version: state.VersionKey{App: state.AppName(req.App), Function: state.FunctionName(req.Function), Number: 1},
		Steps:   []invoke.Step{{Name: "queue", Took: 1500 * time.Nanosecond}, {Name: "run", Took: 2 * time.Millisecond}},
	}
}

// newServer wires a server to a node without listening.
func newServer(t testing.TB, n *fakeNode, change ...func(*Config)) *Server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Control, cfg.Code, cfg.Invoker, cfg.Operations = n, n, n, n
	cfg.AccessKeys = n
	cfg.Registry = prometheus.NewRegistry()
	if _, bench := t.(*testing.B); !bench {
		cfg.Logger = zerolog.New(zerolog.NewTestWriter(t))
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen runs a server on a port of its own until the test ends.
func listen(t testing.TB, n *fakeNode, change ...func(*Config)) (s *Server, address string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = newServer(t, n, append(change, func(c *Config) { c.Listener = ln })...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s, ln.Addr().String(), stop
}

// do sends one request to a server in process.
func do(s http.Handler, method, path, token, body string, header ...string) *httptest.ResponseRecorder {
	var r io.Reader
	if body != "" {
		r = bytes.NewReader([]byte(body))
	}
	req := httptest.NewRequest(method, path, r)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	return w
}
