package state

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// pairLab has cart at versions 1 to 3 with the alias beta split 3 to 1.
func pairLab(t testing.TB) *lab {
	l := newLab(t)
	for range 3 {
		l.ok(deploy("cart"))
	}
	l.ok(putAlias("cart", &clusterpb.Alias{Name: "live", Version: 2}, 0))
	l.ok(putAlias("cart", &clusterpb.Alias{Name: "beta", Version: 1, Other: 3, OtherWeight: 0.25}, 0))
	return l
}

func TestResolveFindsTheVersionOfAQualifier(t *testing.T) {
	t.Parallel()
	v := pairLab(t).view()
	cases := []struct {
		fn, qualifier string
		pick          float64
		want          VersionNumber
		err           error
	}{
		{"cart", "", 0, 2, nil},
		{"cart", "live", 0.99, 2, nil},
		{"cart", "$LATEST", 0, 3, nil},
		{"cart", "1", 0, 1, nil},
		{"cart", "01", 0, 1, nil},
		{"cart", "beta", 0, 3, nil},
		{"cart", "beta", 0.2499, 3, nil},
		{"cart", "beta", 0.25, 1, nil},
		{"cart", "beta", 0.99, 1, nil},
		{"cart", "0", 0, 0, ErrNoVersion},
		{"cart", "4", 0, 0, ErrNoVersion},
		{"cart", "99999999999999999999999999", 0, 0, ErrNoVersion},
		{"cart", "gamma", 0, 0, ErrNoAlias},
		{"none", "", 0, 0, ErrNoFunction},
	}
	for _, c := range cases {
		got, err := v.Resolve("shop", FunctionName(c.fn), c.qualifier, c.pick)
		if !errors.Is(err, c.err) {
			t.Errorf("%s:%s returned %v, want %v", c.fn, c.qualifier, err, c.err)
		} else if err == nil && got.Key.Number != c.want {
			t.Errorf("%s:%s at %v is version %d, want %d", c.fn, c.qualifier, c.pick, got.Key.Number, c.want)
		}
	}
	long := make([]byte, 1000)
	if _, err := v.Resolve(AppName(long), "cart", "", 0); !errors.Is(err, ErrNoFunction) {
		t.Errorf("an app with a long name returned %v", err)
	}
}

// TestReadPathDoesNotAllocate is not parallel: AllocsPerRun counts the whole
// process.
func TestReadPathDoesNotAllocate(t *testing.T) {
	l := pairLab(t)
	l.ok(member("n1"))
	l.ok(deploy("lim", limited(4, 8)))
	v := l.view()
	k := key("lim", 1)
	hash := [32]byte{1}
	for name, read := range map[string]func(){
		"resolve":    func() { _, _ = v.Resolve("shop", "cart", "beta", 0.5) },
		"number":     func() { _, _ = v.Resolve("shop", "cart", "2", 0) },
		"refusal":    func() { _, _ = v.Resolve("shop", "none", "", 0) },
		"assignment": func() { v.Assignment(k) },
		"share":      func() { v.Share(k, "n1") },
		"app":        func() { v.App("shop") },
		"token":      func() { v.TokenByHash(hash) },
		"hash":       func() { k.Hash() },
	} {
		if n := testing.AllocsPerRun(100, read); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestShareFollowsAssignmentAndMax(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(deploy("free", func(c *clusterpb.VersionConfig) { c.Queue = proto.Uint32(5) }))
	l.ok(deploy("lim", limited(1, 8)))
	if p, ok := l.view().Share(key("free", 1), "n1"); !ok || p.Max != 0 || p.Queue != 5 {
		t.Fatalf("without max and assignment the share is %+v, %v", p, ok)
	}
	if _, ok := l.view().Share(key("lim", 1), "n1"); ok {
		t.Fatal("a version with a max runs without a place")
	}
	if _, ok := l.view().Share(key("none", 1), "n1"); ok {
		t.Fatal("an unknown version has a share")
	}
	l.ok(member("n1"))
	l.ok(member("n2"))
	a := &Assignment{Version: key("lim", 1), Places: []Place{{Node: "n2", Max: 1, Queue: 8}}}
	l.ok(putAssignment(a))
	if p, ok := l.view().Share(key("lim", 1), "n2"); !ok || p.Max != 1 || p.Queue != 8 {
		t.Fatalf("the share is %+v, %v", p, ok)
	}
	if _, ok := l.view().Share(key("lim", 1), "n1"); ok {
		t.Fatal("a node without a place has a share of a limited version")
	}
}

func TestAssignmentsAreCheckedAgainWhenApplied(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, n := range []string{"n1", "n2", "n3"} {
		l.ok(member(n))
	}
	l.ok(member("pi", func(m *clusterpb.Member) { m.Arch = "arm64" }))
	l.ok(draining("n3", true))
	l.ok(deploy("lim", limited(4, 8)))
	l.ok(deploy("free", func(c *clusterpb.VersionConfig) { c.Min = 2 }))
	cases := []struct {
		fn         string
		everywhere bool
		places     []Place
		words      string
	}{
		{"lim", false, []Place{{Node: "n1", Max: 3}, {Node: "n2", Max: 2}}, "more instances than max"},
		{"lim", false, []Place{{Node: "n1", Max: 2, Queue: 5}, {Node: "n2", Max: 2, Queue: 4}}, "more waiting"},
		{"lim", false, []Place{{Node: "n1", Max: 1, Queue: 9}}, "more waiting"},
		{"lim", false, []Place{{Node: "n1", Max: 1}, {Node: "n1", Max: 1}}, "two places"},
		{"lim", false, []Place{{Node: "n1"}}, "does not fit max"},
		{"lim", false, []Place{{Node: "n1", Max: 1, Provisioned: 2}}, "more provisioned"},
		{"lim", true, nil, "everywhere"},
		{"lim", false, []Place{{Node: "n9", Max: 1}}, "not a member"},
		{"lim", false, []Place{{Node: "n3", Max: 1}}, "draining"},
		{"lim", false, []Place{{Node: "pi", Max: 1}}, "cannot run it"},
		{"free", true, []Place{{Node: "n1", Provisioned: 3}}, "more provisioned than the version asks for"},
		{"none", false, nil, "no such version"},
	}
	for _, c := range cases {
		before := l.view().Assignment(key(c.fn, 1))
		res := l.ok(putAssignment(&Assignment{Version: key(c.fn, 1), Everywhere: c.everywhere, Places: c.places}))
		if len(res.GetSkipped()) != 1 || !strings.Contains(res.GetSkipped()[0], c.words) {
			t.Errorf("%+v: skipped is %q, want %q", c.places, res.GetSkipped(), c.words)
		}
		if l.view().Assignment(key(c.fn, 1)) != before {
			t.Errorf("%+v: a skipped assignment was stored", c.places)
		}
	}
	good := &Assignment{Version: key("free", 1), Everywhere: true, Places: []Place{
		{Node: "n1", Queue: 128, Provisioned: 1}, {Node: "n2", Queue: 128, Provisioned: 1},
	}}
	if res := l.ok(putAssignment(good)); len(res.GetSkipped()) != 0 || !l.view().Assignment(key("free", 1)).Equal(good) {
		t.Fatalf("a good assignment was skipped: %v", res)
	}
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_PutAssignments{
		PutAssignments: &clusterpb.PutAssignments{Drop: []*clusterpb.VersionRef{key("free", 1).Ref()}},
	}})
	if l.view().Assignment(key("free", 1)) != nil {
		t.Fatal("a dropped assignment is still there")
	}
}

func TestListsAreInOrderAndOfOneApp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, n := range []string{"b", "a", "c"} {
		l.ok(deploy(n))
	}
	other := deploy("z")
	other.GetDeploy().App = "shop-2"
	l.ok(other)
	var names []FunctionName
	for _, f := range l.view().Functions("shop") {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []FunctionName{"a", "b", "c"}) || len(l.view().Functions("")) != 4 || len(l.view().Apps()) != 2 {
		t.Fatalf("functions of shop are %v", names)
	}
	if got := slices.Compact(slices.Collect(l.view().Digests())); !slices.Equal(got, []string{digest("code")}) {
		t.Fatalf("digests are %v", got)
	}
}

func TestArtifactPrefersTheExactMachine(t *testing.T) {
	t.Parallel()
	cfg := &clusterpb.VersionConfig{Artifacts: []*clusterpb.Artifact{
		{Digest: "any"}, {Os: "linux", Digest: "linux"}, {Os: "linux", Arch: "arm64", Digest: "exact"},
	}}
	for machine, want := range map[[2]string]string{
		{"linux", "arm64"}: "exact", {"linux", "amd64"}: "linux", {"darwin", "arm64"}: "any",
	} {
		if got := SelectArtifact(cfg, machine[0], machine[1]).GetDigest(); got != want {
			t.Errorf("%v gets %q, want %q", machine, got, want)
		}
	}
	if SelectArtifact(&clusterpb.VersionConfig{}, "linux", "arm64") != nil {
		t.Error("a version without code has code")
	}
}

func TestVersionKeyHasOneTextForm(t *testing.T) {
	t.Parallel()
	k := key("cart", 12)
	got, err := ParseVersionKey(k.String())
	if err != nil || got != k || k.String() != "shop/cart:12" {
		t.Fatalf("%s parses to %v, %v", k, got, err)
	}
	for _, s := range []string{"", "cart:1", "shop/cart", "shop/cart:0", "shop/cart:x"} {
		if _, err := ParseVersionKey(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
	app, name, q := SplitName("cart:beta")
	if app != DefaultApp || name != "cart" || q != "beta" {
		t.Fatalf("cart:beta splits into %q %q %q", app, name, q)
	}
}

func BenchmarkResolve(b *testing.B) {
	l := pairLab(b)
	for i := range 500 {
		l.ok(deploy("fn-" + string(rune('a'+i%26)) + "-" + digest(string(rune(i)))[:20]))
	}
	v := l.view()
	for _, q := range []string{"", "beta", "2", "$LATEST"} {
		b.Run("qualifier="+q, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Resolve("shop", "cart", q, 0.5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
