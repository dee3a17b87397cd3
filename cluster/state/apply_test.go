package state

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Short names for the codes that tests expect.
const (
	codeInvalid  = clusterpb.RefusalCode_REFUSAL_CODE_INVALID
	codeNotFound = clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND
	codeExists   = clusterpb.RefusalCode_REFUSAL_CODE_EXISTS
	codeConflict = clusterpb.RefusalCode_REFUSAL_CODE_CONFLICT
	codeLimit    = clusterpb.RefusalCode_REFUSAL_CODE_LIMIT
	codeRemoved  = clusterpb.RefusalCode_REFUSAL_CODE_REMOVED
	codeExpired  = clusterpb.RefusalCode_REFUSAL_CODE_EXPIRED
	codeNoNode   = clusterpb.RefusalCode_REFUSAL_CODE_NO_NODE
	codeInUse    = clusterpb.RefusalCode_REFUSAL_CODE_IN_USE
	codeLevel    = clusterpb.RefusalCode_REFUSAL_CODE_LEVEL
)

func TestNothingIsAcceptedBeforeTheClusterIsFounded(t *testing.T) {
	t.Parallel()
	l := &lab{t: t, store: New(), now: epoch}
	l.no(member("n1"), clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUNDED, "not founded")
	found := &clusterpb.Command{Op: &clusterpb.Command_FoundCluster{
		FoundCluster: &clusterpb.FoundCluster{ClusterId: "c", FeatureLevel: 1},
	}}
	l.ok(found)
	l.no(found, codeExists, "founded already")
	if v := l.view(); v.ClusterID() != "c" || v.FeatureLevel() != 1 {
		t.Fatalf("cluster %q at level %d", v.ClusterID(), v.FeatureLevel())
	}
}

func TestDeployNumbersVersionsAndMovesLive(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for want := uint64(1); want <= 3; want++ {
		if res := l.ok(deploy("cart")); res.GetVersion() != want || res.GetRevision() != want {
			t.Fatalf("deploy %d made %v", want, res)
		}
	}
	keep := deploy("cart")
	keep.GetDeploy().KeepLive = true
	if res := l.ok(keep); res.GetVersion() != 4 {
		t.Fatalf("deploy made %v", res)
	}
	if live := l.view().Function("shop", "cart").Alias(Live); live.Version != 3 {
		t.Fatalf("live names version %d, want 3", live.Version)
	}
	stale := deploy("cart")
	stale.GetDeploy().ExpectedVersion = 3
	l.no(stale, codeConflict, "at version 4")
}

func TestVersionNumbersAreNotReusedAfterDelete(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(deploy("cart"))
	l.ok(deploy("cart", limited(4, 4)))
	l.ok(deleteFunction("cart"))
	if v := l.view(); v.Function("shop", "cart") != nil || v.App("shop") != nil || len(v.Assignments()) != 0 {
		t.Fatal("the function left something behind")
	}
	l.no(deleteFunction("cart"), codeNotFound, "shop/cart")
	if res := l.ok(deploy("cart")); res.GetVersion() != 3 {
		t.Fatalf("the new function begins at version %d, want 3", res.GetVersion())
	}
}

func TestDeployIsRefusedWhenNoMemberCanRunIt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.no(deploy("f", func(c *clusterpb.VersionConfig) { c.Runtime = "wasm" }), codeNoNode, `"wasm"`)
	l.no(deploy("f", func(c *clusterpb.VersionConfig) { c.MinSandbox = 2 }), codeNoNode, "sandbox level 2")
	l.no(deploy("f", func(c *clusterpb.VersionConfig) { c.Artifacts[0].Arch = "arm64" }), codeNoNode, "machine")
	l.ok(deploy("f", func(c *clusterpb.VersionConfig) { c.Artifacts[0].Arch = "" }))
}

func TestInvalidDeploysAreRefusedWithEveryProblem(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.no(deploy("f", func(c *clusterpb.VersionConfig) { c.MemoryBytes, c.TimeoutMs = 1, 901_000 }), codeInvalid, "memory_bytes is 1, allowed is 16777216")
	l.no(deploy("f", func(c *clusterpb.VersionConfig) { c.MemoryBytes, c.TimeoutMs = 1, 901_000 }), codeInvalid, "timeout_ms is 901000")
	cases := []struct {
		words  string
		change func(*clusterpb.VersionConfig)
	}{
		{"runtime", func(c *clusterpb.VersionConfig) { c.Runtime = "" }},
		{"concurrency is 0", func(c *clusterpb.VersionConfig) { c.Concurrency = 0 }},
		{"queue is missing", func(c *clusterpb.VersionConfig) { c.Queue = nil }},
		{"more than max", func(c *clusterpb.VersionConfig) { c.Max, c.Min = 2, 3 }},
		{"artifacts: 0", func(c *clusterpb.VersionConfig) { c.Artifacts = nil }},
		{"not a sha256", func(c *clusterpb.VersionConfig) { c.Artifacts[0].Digest = "abc" }},
		{"one for linux/amd64 already", func(c *clusterpb.VersionConfig) { c.Artifacts = append(c.Artifacts, c.Artifacts[0]) }},
		{`"COVEY_X": names that begin`, func(c *clusterpb.VersionConfig) { c.Env = map[string]string{"COVEY_X": "1"} }},
		{`"A=B" is not a variable`, func(c *clusterpb.VersionConfig) { c.Env = map[string]string{"A=B": "1"} }},
		{"env has", func(c *clusterpb.VersionConfig) { c.Env = map[string]string{"A": strings.Repeat("x", maxEnvBytes)} }},
		{"description has", func(c *clusterpb.VersionConfig) { c.Description = strings.Repeat("x", maxText+1) }},
	}
	for _, c := range cases {
		l.no(deploy("f", c.change), codeInvalid, c.words)
	}
	secret := deploy("f", func(c *clusterpb.VersionConfig) { c.Env = map[string]string{"A": "s3cret\x00"} })
	if msg := l.do(secret).GetRefusal().GetMessage(); strings.Contains(msg, "s3cret") {
		t.Fatalf("the refusal shows a value: %s", msg)
	}
}

func TestSettingsOfRuntimesNeedTheirFeatureLevel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	setting := func(name string) *clusterpb.Command {
		return deploy("f", func(c *clusterpb.VersionConfig) { c.Env = map[string]string{name: "1"} })
	}
	l.no(setting("COVEY_EXEC_MODE"), codeInvalid, "are reserved")
	l.raise(RuntimeSettingsLevel)
	l.ok(setting("COVEY_EXEC_MODE"))
	l.no(setting("COVEY_EXECUTOR"), codeInvalid, "are reserved")
}

func TestNamesFollowLambdaAndDNS(t *testing.T) {
	t.Parallel()
	good := []string{"a", "Thumb-Nail_2", "7", strings.Repeat("x", 63)}
	bad := []string{"", "-a", "a-", "_a", "a.b", "a/b", "a:b", "ä", strings.Repeat("x", 64), "$LATEST"}
	for _, n := range good {
		if err := CheckFunctionName(FunctionName(n)); err != nil {
			t.Errorf("%v", err)
		}
	}
	for _, n := range bad {
		if CheckFunctionName(FunctionName(n)) == nil {
			t.Errorf("function name %q is accepted", n)
		}
		if CheckAppName(AppName(n)) == nil {
			t.Errorf("app name %q is accepted", n)
		}
	}
	for _, n := range []string{"Shop", "a_b"} {
		if CheckAppName(AppName(n)) == nil {
			t.Errorf("app name %q is accepted", n)
		}
	}
	for _, n := range []string{"12", "", "$LATEST", "a b"} {
		if CheckAliasName(AliasName(n)) == nil {
			t.Errorf("alias %q is accepted", n)
		}
	}
}

func TestAliasesNameVersionsUnderRevisions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(deploy("cart"))
	l.ok(deploy("cart"))
	if res := l.ok(putAlias("cart", &clusterpb.Alias{Name: "beta"}, 0)); res.GetVersion() != 2 || res.GetRevision() != 1 {
		t.Fatalf("an alias without a version made %v, want the newest", res)
	}
	if res := l.ok(putAlias("cart", &clusterpb.Alias{Name: "beta", Version: 1, Other: 2, OtherWeight: 0.1}, 1)); res.GetRevision() != 2 {
		t.Fatalf("the change made %v", res)
	}
	l.no(putAlias("cart", &clusterpb.Alias{Name: "beta", Version: 2}, 1), codeConflict, "revision 2, not 1")
	l.no(putAlias("cart", &clusterpb.Alias{Name: "beta", Version: 9}, 0), codeNotFound, "shop/cart:9")
	l.no(putAlias("cart", &clusterpb.Alias{Name: "x", Version: 1, Other: 1, OtherWeight: 1}, 0), codeInvalid, "two different")
	l.no(putAlias("cart", &clusterpb.Alias{Name: "x", Version: 1, Other: 2, OtherWeight: math.NaN()}, 0), codeInvalid, "NaN")
	l.no(putAlias("cart", &clusterpb.Alias{Name: "x", Version: 1, OtherWeight: 0.5}, 0), codeInvalid, "second version")
	l.no(putAlias("none", &clusterpb.Alias{Name: "x"}, 0), codeNotFound, "shop/none")

	only := putAlias("cart", &clusterpb.Alias{Name: "beta"}, 0)
	only.GetPutAlias().CreateOnly = true
	l.no(only, codeExists, "beta")
	drop := func(name string) *clusterpb.Command {
		return &clusterpb.Command{Op: &clusterpb.Command_DeleteAlias{DeleteAlias: &clusterpb.DeleteAlias{App: "shop", Function: "cart", Name: name}}}
	}
	l.no(drop("live"), codeInUse, "keeps")
	l.ok(drop("beta"))
	l.no(drop("beta"), codeNotFound, "beta")
}

func TestOldVersionsGoUnlessAnAliasNamesThem(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.ok(deploy("cart", limited(2, 2)))
	l.ok(putAlias("cart", &clusterpb.Alias{Name: "first", Version: 1}, 0))
	for range KeepVersions + 5 {
		l.ok(deploy("cart", limited(2, 2)))
	}
	f := l.view().Function("shop", "cart")
	if len(f.Versions) != KeepVersions || f.Versions[0].Key.Number != 1 || f.Newest().Key.Number != KeepVersions+6 {
		t.Fatalf("%d versions are kept, from %d to %d", len(f.Versions), f.Versions[0].Key.Number, f.Newest().Key.Number)
	}
	if got := len(l.view().Assignments()); got != KeepVersions {
		t.Fatalf("%d assignments for %d versions", got, KeepVersions)
	}
	del := func(n VersionNumber) *clusterpb.Command {
		return &clusterpb.Command{Op: &clusterpb.Command_DeleteVersion{DeleteVersion: &clusterpb.DeleteVersion{Version: key("cart", n).Ref()}}}
	}
	l.no(del(1), codeInUse, "move it first")
	l.no(del(2), codeNotFound, "cart:2")
	l.ok(del(KeepVersions + 5))
	if l.view().Version(key("cart", KeepVersions+5)) != nil {
		t.Fatal("the version is still there")
	}
}

func TestLimitsOfAnApp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	limits := func(lim *clusterpb.Limits) *clusterpb.Command {
		return &clusterpb.Command{Op: &clusterpb.Command_PutLimits{PutLimits: &clusterpb.PutLimits{App: "shop", Limits: lim}}}
	}
	l.ok(limits(&clusterpb.Limits{Functions: 1, MemoryBytes: 256 << 20, TimeoutMs: 30_000}))
	l.ok(deploy("a"))
	l.no(deploy("b"), codeLimit, "1 functions")
	l.ok(deploy("a"))
	l.no(deploy("a", func(c *clusterpb.VersionConfig) { c.MemoryBytes++ }), codeLimit, "memory_bytes")
	l.no(deploy("a", func(c *clusterpb.VersionConfig) { c.TimeoutMs++ }), codeLimit, "timeout_ms")
	if app := l.view().App("shop"); app.Functions != 1 || app.Limits.GetFunctions() != 1 {
		t.Fatalf("app is %+v", app)
	}
	l.ok(deleteFunction("a"))
	if l.view().App("shop") == nil {
		t.Fatal("the app's limits went with its last function")
	}
	l.ok(limits(nil))
	if l.view().App("shop") != nil {
		t.Fatal("an app that holds nothing is kept")
	}
}

// R11: the id of a removed node stays burned, so that a node with an old or a
// wiped disk cannot come back as a second owner of the id.
func TestR11RemovedNodeIDStaysBurned(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.ok(member("n2"))
	l.ok(joinToken("t", 5, time.Hour))
	l.ok(removeMember("n1"))
	l.ok(removeMember("n1"))
	l.no(removeMember("n9"), codeNotFound, "n9")
	l.no(member("n1"), codeRemoved, "empty data directory")
	l.no(useToken("t", "n1"), codeRemoved, "n1")

	restored := New()
	if err := restored.Restore(strings.NewReader(string(snapshot(t, l.view())))); err != nil {
		t.Fatal(err)
	}
	l.store = restored
	l.no(member("n1"), codeRemoved, "empty data directory")
	if v := l.view(); !v.Removed("n1") || v.Member("n1") != nil || v.MemberCount() != 1 || v.Tombstones()[0].Name != "host-n1" {
		t.Fatal("the tombstone did not survive the snapshot")
	}
	// A wiped disk means a new id under the same host name, which is fine.
	l.ok(member("n3", func(m *clusterpb.Member) { m.Name = "host-n1" }))
}

func TestMemberRenewalKeepsWhatOperatorsSet(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1", func(m *clusterpb.Member) { m.Role, m.Draining = clusterpb.Role_ROLE_VOTER, true }))
	first := l.view().Member("n1")
	if first.Role != clusterpb.Role_ROLE_OBSERVER || first.Draining || first.Joined.UnixMilli() != l.now {
		t.Fatalf("a new member set its own standing: %+v", first)
	}
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_SetRole{SetRole: &clusterpb.SetRole{Id: "n1", Role: clusterpb.Role_ROLE_VOTER}}})
	l.ok(draining("n1", true))
	l.ok(member("n1", func(m *clusterpb.Member) { m.PeerAddress = "127.0.0.1:9" }))
	want := *first
	want.Role, want.Draining, want.PeerAddress = clusterpb.Role_ROLE_VOTER, true, "127.0.0.1:9"
	if diff := cmp.Diff(&want, l.view().Member("n1")); diff != "" {
		t.Fatal(diff)
	}
	l.no(&clusterpb.Command{Op: &clusterpb.Command_SetRole{SetRole: &clusterpb.SetRole{Id: "n1"}}}, codeInvalid, "role 0")
	l.no(draining("n9", true), codeNotFound, "n9")
	l.no(member("a/b"), codeInvalid, "a/b")
}

func TestFeatureLevelNeedsEveryMember(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	raise := func(n uint32) *clusterpb.Command {
		return &clusterpb.Command{Op: &clusterpb.Command_RaiseFeatureLevel{RaiseFeatureLevel: &clusterpb.RaiseFeatureLevel{FeatureLevel: n}}}
	}
	l.ok(raise(1))
	l.no(raise(0), codeInvalid, "cannot fall")
	l.no(member("n2", func(m *clusterpb.Member) { m.FeatureLevel = 0 }), codeLevel, "upgrade the node")
}

func TestJoinTokensAreSpentOncePerNode(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(joinToken("t", 2, time.Hour))
	l.no(joinToken("t", 2, time.Hour), codeExists, "exists")
	l.ok(useToken("t", "n1"))
	l.ok(useToken("t", "n1"))
	l.ok(useToken("t", "n2"))
	l.no(useToken("t", "n3"), codeExpired, "2 times")
	l.ok(useToken("t", "n2"))
	l.ok(joinToken("short", 0, time.Minute))
	for i := range 3 {
		l.ok(useToken("short", fmt.Sprint("m", i)))
	}
	l.now += time.Minute.Milliseconds()
	l.no(useToken("short", "m1"), codeExpired, "expired at")
	l.no(useToken("none", "m1"), codeNotFound, "none")
	l.now += (8 * day).Milliseconds()
	l.ok(joinToken("later", 0, 30*day))
	if v := l.view(); v.Token("short") != nil || v.Token("later") == nil || len(v.Tokens()) != 1 {
		t.Fatalf("tokens are %v", v.Tokens())
	}
	revoke := &clusterpb.Command{Op: &clusterpb.Command_RevokeToken{RevokeToken: &clusterpb.RevokeToken{Id: "later"}}}
	later := l.view().Token("later")
	if l.view().TokenByHash(later.Hash) != later {
		t.Fatal("the token is not found by its hash")
	}
	l.ok(revoke)
	if l.view().TokenByHash(later.Hash) != nil {
		t.Fatal("a revoked token is found by its hash")
	}
	l.no(revoke, codeNotFound, "later")
}

func TestTokensAreChecked(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	put := func(tok *clusterpb.Token) *clusterpb.Command {
		return &clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: tok}}}
	}
	api := clusterpb.TokenKind_TOKEN_KIND_API
	hash := make([]byte, 32)
	l.no(put(&clusterpb.Token{Id: "a", Hash: hash, Kind: api}), codeInvalid, "needs a scope")
	l.no(put(&clusterpb.Token{Id: "a", Hash: hash[:5], Kind: api, Scopes: []clusterpb.Scope{4}}), codeInvalid, "5 bytes")
	l.no(put(&clusterpb.Token{Id: "a", Hash: hash, Kind: api, Scopes: []clusterpb.Scope{9}}), codeInvalid, "scope 9")
	l.no(put(&clusterpb.Token{Id: "a", Hash: hash}), codeInvalid, "kind 0")
	l.no(put(nil), codeInvalid, "id")
	l.ok(put(&clusterpb.Token{Id: "a", Hash: hash, Kind: api, Scopes: []clusterpb.Scope{clusterpb.Scope_SCOPE_ADMIN}, App: "shop"}))
	got := l.view().Token("a")
	if !got.Has(clusterpb.Scope_SCOPE_ADMIN) || got.Has(clusterpb.Scope_SCOPE_READ) || got.App != "shop" || got.Expired(time.UnixMilli(math.MaxInt64/2)) {
		t.Fatalf("token is %+v", got)
	}
	l.no(put(&clusterpb.Token{Id: "b", Hash: hash, Kind: api, Scopes: []clusterpb.Scope{1}}), codeExists, "secret")
}

func TestAccessKeysNeedTheirFeatureLevel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.no(accessKey("k", hour), codeLevel, "feature level 2")
	l.raise(AccessKeyLevel)
	l.ok(accessKey("k", hour))
	l.ok(accessKey("k2", hour))
	l.no(accessKey("k", hour), codeExists, "exists")
	k := l.view().Token("k")
	if k == nil || string(k.Sealed) != "sealed k" || k.Hash != [32]byte{} {
		t.Fatalf("the key is %+v", k)
	}
	if l.view().TokenByHash([32]byte{}) != nil {
		t.Error("an access key is found by the hash that it does not have")
	}
	l.no(useToken("k", "n2"), codeNotFound, "k")
	// A token of another kind is not in its way, nor found instead of it.
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: &clusterpb.Token{
		Id: "api", Hash: make([]byte, 32), Kind: clusterpb.TokenKind_TOKEN_KIND_API, Scopes: []clusterpb.Scope{1},
	}}}})
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_RevokeToken{RevokeToken: &clusterpb.RevokeToken{Id: "k"}}})
	if l.view().Token("k") != nil || l.view().TokenByHash([32]byte{}) == nil {
		t.Error("revoking an access key took another token along, or nothing")
	}
}

func TestAccessKeysAreChecked(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.raise(AccessKeyLevel)
	for words, change := range map[string]func(*clusterpb.Token){
		"needs a scope":     func(k *clusterpb.Token) { k.Scopes = nil },
		"uses":              func(k *clusterpb.Token) { k.Uses = 1 },
		"no hash":           func(k *clusterpb.Token) { k.Hash = make([]byte, 32) },
		"sealed has 0":      func(k *clusterpb.Token) { k.Sealed = nil },
		"sealed has 513":    func(k *clusterpb.Token) { k.Sealed = make([]byte, 513) },
		"sealed secret":     func(k *clusterpb.Token) { k.Kind, k.Hash = clusterpb.TokenKind_TOKEN_KIND_API, make([]byte, 32) },
		"not a kind":        func(k *clusterpb.Token) { k.Kind = 99 },
		"app":               func(k *clusterpb.Token) { k.App = "Not An App" },
		"scope 9 is not a ": func(k *clusterpb.Token) { k.Scopes = []clusterpb.Scope{9} },
	} {
		l.no(accessKey("k", hour, change), codeInvalid, words)
	}
}

func TestGuaranteesNeedTheirFeatureLevel(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*clusterpb.VersionConfig){
		func(c *clusterpb.VersionConfig) { c.Reserved = 3 },
		func(c *clusterpb.VersionConfig) { c.Provisioned = []*clusterpb.Provision{{Count: 2}} },
		func(c *clusterpb.VersionConfig) { c.Rate = &clusterpb.Rate{PerSecond: 5} },
	} {
		l := newLab(t)
		l.ok(member("n1"))
		l.no(deploy("f", change), codeInvalid, "feature level 3")
		l.raise(GuaranteesLevel)
		l.ok(deploy("f", change))
	}
}

func TestGuaranteesAreBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.raise(GuaranteesLevel)
	window := func(change func(*clusterpb.Provision)) func(*clusterpb.VersionConfig) {
		return func(c *clusterpb.VersionConfig) {
			p := &clusterpb.Provision{Count: 2, FromMinute: 480, ToMinute: 1080, Days: 0b0111110, Zone: "Europe/Berlin"}
			change(p)
			c.Max, c.Provisioned = 4, []*clusterpb.Provision{p}
		}
	}
	l.ok(deploy("f", window(func(*clusterpb.Provision) {})))
	for words, change := range map[string]func(*clusterpb.VersionConfig){
		"reserved":                func(c *clusterpb.VersionConfig) { c.Reserved = maxReserved + 1 },
		"rate.per_second":         func(c *clusterpb.VersionConfig) { c.Rate = &clusterpb.Rate{Burst: 3} },
		"rate.burst":              func(c *clusterpb.VersionConfig) { c.Rate = &clusterpb.Rate{PerSecond: 1, Burst: maxRate + 1} },
		"at most 32":              func(c *clusterpb.VersionConfig) { c.Provisioned = make([]*clusterpb.Provision, maxProvisions+1) },
		"provisioned.count is 0":  window(func(p *clusterpb.Provision) { p.Count = 0 }),
		"more than max":           window(func(p *clusterpb.Provision) { p.Count = 5 }),
		"provisioned.from_minute": window(func(p *clusterpb.Provision) { p.FromMinute = minutesOfDay }),
		"provisioned.to_minute":   window(func(p *clusterpb.Provision) { p.ToMinute = minutesOfDay + 1 }),
		"provisioned.days":        window(func(p *clusterpb.Provision) { p.Days = 128 }),
		"provisioned.zone":        window(func(p *clusterpb.Provision) { p.Zone = "Europe/Ber lin" }),
	} {
		l.no(deploy("f", change), codeInvalid, words)
	}
}

func TestPlacementNeedsItsFeatureLevel(t *testing.T) {
	t.Parallel()
	labels := func(m *clusterpb.Member) {
		m.FeatureLevel, m.Labels = FeatureLevel, map[string]string{"disk": "ssd"}
	}
	place := func(c *clusterpb.VersionConfig) { c.Place = map[string]string{"disk": "ssd"} }
	affine := func(c *clusterpb.VersionConfig) { c.Affinity = true }
	l := newLab(t)
	l.ok(member("n1", func(m *clusterpb.Member) { m.FeatureLevel = FeatureLevel }))
	l.no(member("n1", labels), codeInvalid, "feature level 3")
	l.no(deploy("f", place), codeInvalid, "feature level 3")
	l.no(deploy("f", affine), codeInvalid, "feature level 3")
	l.raise(PlacementLevel)
	l.no(deploy("f", place), codeNoNode, "the labels of place")
	l.ok(member("n1", labels))
	l.ok(deploy("f", place, limited(4, 4)))
	l.ok(deploy("f", affine))
	if _, ok := l.view().Share(key("f", 1), "n1"); !ok {
		t.Error("the node with the label has no share")
	}
}

func TestNodeLabelsAreBounded(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range MaxNodeLabels + 1 {
		many[fmt.Sprint("l", i)] = ""
	}
	l := newLab(t)
	l.ok(member("n1"))
	l.raise(PlacementLevel)
	for words, labels := range map[string]map[string]string{
		"33 labels":     many,
		`label ""`:      {"": "x"},
		`label "a b"`:   {"a b": "x"},
		`value "x=y"`:   {"disk": "x=y"},
		"want at most ": {"disk": strings.Repeat("x", maxName+1)},
	} {
		l.no(deploy("f", func(c *clusterpb.VersionConfig) { c.Place = labels }), codeInvalid, words)
		l.no(member("n2", func(m *clusterpb.Member) { m.FeatureLevel, m.Labels = FeatureLevel, labels }), codeInvalid, words)
	}
	l.ok(member("n2", func(m *clusterpb.Member) {
		m.FeatureLevel, m.Labels = FeatureLevel, map[string]string{"topology.example/zone": "eu-1", "gpu": ""}
	}))
}
