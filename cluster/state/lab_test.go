package state

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// epoch is where state time begins in these tests.
const epoch = int64(1_790_000_000_000)

// lab drives one store as a log would.
type lab struct {
	t     testing.TB
	store *Store
	index Index
	now   int64
	log   [][]byte
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, store: New(), now: epoch}
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_FoundCluster{
		FoundCluster: &clusterpb.FoundCluster{ClusterId: "cluster-1", FeatureLevel: 1},
	}})
	return l
}

// do applies a command one second after the last one.
func (l *lab) do(cmd *clusterpb.Command) *clusterpb.Result {
	l.t.Helper()
	l.now += 1000
	cmd.Level, cmd.TimeUnixMs = max(cmd.Level, 1), l.now
	data, err := Encode(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	l.index++
	l.log = append(l.log, data)
	res, err := l.store.Apply(l.index, data)
	if err != nil {
		l.t.Fatal(err)
	}
	return res
}

func (l *lab) ok(cmd *clusterpb.Command) *clusterpb.Result {
	l.t.Helper()
	res := l.do(cmd)
	if err := Refused(res); err != nil {
		l.t.Fatalf("%v was refused: %v", cmd, err)
	}
	return res
}

// no applies a command that must be refused with the code and words.
func (l *lab) no(cmd *clusterpb.Command, code clusterpb.RefusalCode, words string) {
	l.t.Helper()
	before := l.store.View()
	res := l.do(cmd)
	if got := res.GetRefusal(); got.GetCode() != code || !strings.Contains(got.GetMessage(), words) {
		l.t.Fatalf("refusal is %v, want %v with %q", got, code, words)
	}
	after := l.store.View()
	a, b := *before, *after
	if a.members != b.members || a.functions != b.functions || a.assignments != b.assignments || a.tokens != b.tokens ||
		a.reservations != b.reservations || a.apps != b.apps || a.usage != b.usage || a.retired != b.retired || a.level != b.level {
		l.t.Fatalf("a refused command changed the state: %v", cmd)
	}
}

// raise brings every member and the cluster to a feature level.
func (l *lab) raise(level uint32) {
	l.t.Helper()
	for _, m := range l.view().Members() {
		l.ok(member(string(m.ID), func(p *clusterpb.Member) { p.FeatureLevel = level }))
	}
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_RaiseFeatureLevel{
		RaiseFeatureLevel: &clusterpb.RaiseFeatureLevel{FeatureLevel: level},
	}})
}

func (l *lab) view() *View { return l.store.View() }

func deploy(name string, change ...func(*clusterpb.VersionConfig)) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{
		App: "shop", Name: name, Config: config(change...),
	}}}
}

func config(change ...func(*clusterpb.VersionConfig)) *clusterpb.VersionConfig {
	c := WithDefaults(&clusterpb.VersionConfig{
		Runtime: "go", Artifacts: []*clusterpb.Artifact{{Os: "linux", Arch: "amd64", Digest: digest("code"), Size: 3}},
	})
	for _, f := range change {
		f(c)
	}
	return c
}

func digest(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func limited(n, queue uint32) func(*clusterpb.VersionConfig) {
	return func(c *clusterpb.VersionConfig) { c.Max, c.Queue = n, proto.Uint32(queue) }
}

func member(id string, change ...func(*clusterpb.Member)) *clusterpb.Command {
	m := &clusterpb.Member{
		Id: id, Name: "host-" + id, PeerAddress: "127.0.0.1:7071", Os: "linux", Arch: "amd64",
		Cpus: 2, MemoryBytes: 1 << 30, Runtimes: []string{"go"}, SandboxLevel: 1, FeatureLevel: 1,
	}
	for _, f := range change {
		f(m)
	}
	return &clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: m}}}
}

func removeMember(id string) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Id: id}}}
}

func draining(id string, on bool) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_SetDraining{SetDraining: &clusterpb.SetDraining{Id: id, Draining: on}}}
}

func putAlias(fn string, a *clusterpb.Alias, revision uint64) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_PutAlias{PutAlias: &clusterpb.PutAlias{
		App: "shop", Function: fn, Alias: a, ExpectedRevision: revision,
	}}}
}

func deleteFunction(fn string) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_DeleteFunction{DeleteFunction: &clusterpb.DeleteFunction{App: "shop", Name: fn}}}
}

func putAssignment(a *Assignment) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_PutAssignments{
		PutAssignments: &clusterpb.PutAssignments{Put: []*clusterpb.Assignment{a.PB()}},
	}}
}

func putReservation(fn string, shares ...ShareChange) *clusterpb.Command {
	c := &clusterpb.ReservationChange{App: "shop", Function: fn}
	for _, s := range shares {
		c.Shares = append(c.Shares, &clusterpb.ShareChange{Node: string(s.Node), Share: uint32(s.Share), Settled: uint64(s.Settled)})
	}
	return &clusterpb.Command{Op: &clusterpb.Command_PutReservations{
		PutReservations: &clusterpb.PutReservations{Changes: []*clusterpb.ReservationChange{c}},
	}}
}

func joinToken(id string, uses uint32, ttl time.Duration) *clusterpb.Command {
	sum := sha256.Sum256([]byte(id))
	return &clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: &clusterpb.Token{
		Id: id, Hash: sum[:], Kind: clusterpb.TokenKind_TOKEN_KIND_JOIN, Uses: uses,
		ExpiresUnixMs: epoch + ttl.Milliseconds(),
	}}}}
}

func accessKey(id string, ttl time.Duration, change ...func(*clusterpb.Token)) *clusterpb.Command {
	k := &clusterpb.Token{
		Id: id, Kind: clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY, Scopes: []clusterpb.Scope{clusterpb.Scope_SCOPE_INVOKE},
		Sealed: []byte("sealed " + id),
	}
	if ttl != 0 {
		k.ExpiresUnixMs = epoch + ttl.Milliseconds()
	}
	for _, f := range change {
		f(k)
	}
	return &clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: k}}}
}

func useToken(id, node string) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_UseJoinToken{UseJoinToken: &clusterpb.UseJoinToken{Id: id, Node: node}}}
}

func usage(node string, boot, seq uint64, start int64, fn string, invocations uint64) *clusterpb.Command {
	return &clusterpb.Command{Op: &clusterpb.Command_RecordUsage{RecordUsage: &clusterpb.RecordUsage{
		Node: node, Boot: boot, Seq: seq, HourUnixMs: start,
		Usage: []*clusterpb.Usage{{App: "shop", Function: fn, Invocations: invocations, BilledMs: 10 * invocations}},
	}}}
}

func key(fn string, n VersionNumber) VersionKey {
	return VersionKey{App: "shop", Function: FunctionName(fn), Number: n}
}

// snapshot returns the bytes of a view's snapshot.
func snapshot(t testing.TB, v *View) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := v.Snapshot(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
