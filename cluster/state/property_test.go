package state

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// drawCommand draws a command over few names, so that commands meet each other.
func drawCommand(t *rapid.T) *clusterpb.Command {
	fn := rapid.SampledFrom([]string{"a", "b", "bad name"}).Draw(t, "fn")
	node := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node")
	number := rapid.Uint64Range(0, 5).Draw(t, "number")
	small := rapid.Uint32Range(0, 6).Draw(t, "small")
	var cmd *clusterpb.Command
	switch rapid.IntRange(0, 19).Draw(t, "op") {
	case 0, 1:
		cmd = member(node, func(m *clusterpb.Member) {
			m.FeatureLevel = FeatureLevel
			if small > 3 {
				m.Labels = map[string]string{"disk": fn, "zone": node}
			}
		})
	case 2:
		cmd = removeMember(node)
	case 3:
		cmd = draining(node, number%2 == 0)
	case 4, 5, 6:
		cmd = deploy(fn, limited(small, 10), func(c *clusterpb.VersionConfig) {
			c.Min, c.Env = small/2, map[string]string{"A": fn, "B": node, "C": "3"}
			if number == 1 {
				c.Affinity, c.Place = small > 3, map[string]string{"disk": fn}
			}
		})
	case 7:
		cmd = deleteFunction(fn)
	case 8:
		name := rapid.SampledFrom([]string{"live", "beta", "7"}).Draw(t, "alias")
		cmd = putAlias(fn, &clusterpb.Alias{Name: name, Version: number, Other: uint64(small), OtherWeight: 0.5}, 0)
	case 9:
		cmd = &clusterpb.Command{Op: &clusterpb.Command_DeleteAlias{
			DeleteAlias: &clusterpb.DeleteAlias{App: "shop", Function: fn, Name: "beta"},
		}}
	case 10:
		cmd = putAssignment(&Assignment{Version: key(fn, VersionNumber(number)), Places: []Place{{Node: NodeID(node), Max: int(small), Queue: 3}}})
	case 11:
		cmd = joinToken("t-"+node, small, time.Duration(small)*time.Minute)
	case 12:
		cmd = useToken("t-"+node, fmt.Sprint("new-", small))
	case 13:
		cmd = usage(node, number, uint64(small), hourOf+int64(small)*hour.Milliseconds(), fn, number)
	case 14:
		cmd = &clusterpb.Command{Op: &clusterpb.Command_PutLimits{
			PutLimits: &clusterpb.PutLimits{App: "shop", Limits: &clusterpb.Limits{Functions: small}},
		}}
	case 15:
		cmd = accessKey("t-"+node, time.Duration(small)*time.Minute)
	case 16:
		cmd = &clusterpb.Command{Op: &clusterpb.Command_RevokeToken{RevokeToken: &clusterpb.RevokeToken{Id: "t-" + node}}}
	case 17:
		cmd = deploy(fn, func(c *clusterpb.VersionConfig) { c.Reserved, c.TimeoutMs = small, 1000*number+1 })
	case 18:
		cmd = putReservation(fn, ShareChange{NodeID(node), int(small), Index(number * 4)})
	default:
		cmd = &clusterpb.Command{Op: &clusterpb.Command_DeleteVersion{
			DeleteVersion: &clusterpb.DeleteVersion{Version: key(fn, VersionNumber(number)).Ref()},
		}}
	}
	cmd.Id = rapid.SampledFrom([]string{"", "", "id-1", "id-2", "id-3"}).Draw(t, "id")
	cmd.Level = 1
	cmd.TimeUnixMs = epoch + rapid.Int64Range(0, 3*hour.Milliseconds()).Draw(t, "time")
	return cmd
}

// drawLog draws a founded log, of any feature level.
func drawLog(t *rapid.T) []*clusterpb.Command {
	level := rapid.Uint32Range(1, FeatureLevel).Draw(t, "level")
	found := &clusterpb.Command{Level: 1, TimeUnixMs: epoch, Op: &clusterpb.Command_FoundCluster{
		FoundCluster: &clusterpb.FoundCluster{ClusterId: "c", FeatureLevel: level},
	}}
	return append([]*clusterpb.Command{found}, rapid.SliceOfN(rapid.Custom(drawCommand), 1, 40).Draw(t, "log")...)
}

// replay applies commands from an index on.
func replay(t *rapid.T, s *Store, after Index, log []*clusterpb.Command) {
	for i, cmd := range log {
		data, err := Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(after+Index(i)+1, data); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshotAndRestoreEqualsReplay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		cut := rapid.IntRange(0, len(log)).Draw(t, "cut")
		whole, first, second := New(), New(), New()
		replay(t, whole, 0, log)
		replay(t, first, 0, log[:cut])
		var buf bytes.Buffer
		if err := first.View().Snapshot(&buf); err != nil {
			t.Fatal(err)
		}
		if err := second.Restore(bytes.NewReader(buf.Bytes())); err != nil {
			t.Fatal(err)
		}
		if first.View().Hash() != second.View().Hash() {
			t.Fatal("the restored state differs from the one that was saved")
		}
		replay(t, second, Index(cut), log[cut:])
		if whole.View().Hash() != second.View().Hash() {
			t.Fatal("snapshot, restore and the rest of the log differ from the whole log")
		}
	})
}

func TestSameLogGivesSameHashAndOldViewsStay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		a, b := New(), New()
		var views []*View
		var hashes []string
		for i := range log {
			replay(t, a, Index(i), log[i:i+1])
			views = append(views, a.View())
			hashes = append(hashes, a.View().Hash())
		}
		replay(t, b, 0, log)
		if a.View().Hash() != b.View().Hash() {
			t.Fatal("the same log gave two hashes")
		}
		for i, v := range views {
			if v.Hash() != hashes[i] {
				t.Fatalf("a later command changed the view at index %d", v.Index())
			}
		}
	})
}

// What the code relies on, after any log.
func TestInvariantsHoldAfterAnyLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		replay(t, s, 0, drawLog(t))
		v := s.View()
		counted := map[AppName]int{}
		for _, f := range v.Functions("") {
			counted[f.App]++
			for _, a := range f.Aliases {
				if f.Version(a.Version) == nil || (a.Other != 0 && f.Version(a.Other) == nil) {
					t.Fatalf("alias %s of %s names a version that is gone", a.Name, f.Key())
				}
			}
			if f.Alias(Live) == nil || f.Newest().Key.Number > f.LastVersion {
				t.Fatalf("function %s is not whole: %+v", f.Key(), f)
			}
		}
		for _, a := range v.Apps() {
			if a.Functions != counted[a.Name] {
				t.Fatalf("app %s counts %d functions, there are %d", a.Name, a.Functions, counted[a.Name])
			}
		}
		for _, a := range v.Assignments() {
			ver := v.Version(a.Version)
			if ver == nil {
				t.Fatalf("%s has an assignment and does not exist", a.Version)
			}
			var sum int
			for _, p := range a.Places {
				sum += p.Max
			}
			if sum > int(ver.Config.GetMax()) {
				t.Fatalf("%s has shares of %d, max is %d", a.Version, sum, ver.Config.GetMax())
			}
		}
		checkReservations(t, v)
		for _, m := range v.Members() {
			if v.Removed(m.ID) {
				t.Fatalf("%s is a member and removed", m.ID)
			}
		}
		hashed := 0
		for _, k := range v.Tokens() {
			if k.Kind != clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY {
				hashed++
			} else if v.FeatureLevel() < AccessKeyLevel || len(k.Sealed) == 0 {
				t.Fatalf("access key %+v at level %d", k, v.FeatureLevel())
			}
		}
		if hashed != v.tokenHashes.Len() || v.outcomes.Len() != v.recent.Len() {
			t.Fatal("two tables of the same rows differ")
		}
	})
}

func checkReservations(t *rapid.T, v *View) {
	for _, f := range v.Functions("") {
		r := v.Reservation(f.Key())
		if (r != nil) != (f.Reserved() > 0) {
			t.Fatalf("%s reserves %d, its reservation is %+v", f.Key(), f.Reserved(), r)
		}
		if r == nil {
			continue
		}
		shares := 0
		for _, p := range r.Places {
			shares += p.Share
			if p.bound() == 0 || (p.Withheld > 0) != (p.Since > 0) {
				t.Fatalf("%s has the place %+v", f.Key(), p)
			}
		}
		if shares > f.Reserved() {
			t.Fatalf("%s has shares of %d, reserved are %d", f.Key(), shares, f.Reserved())
		}
	}
	for _, r := range v.Reservations() {
		if v.Function(r.Function.App, r.Function.Name) == nil {
			t.Fatalf("%s has a reservation and does not exist", r.Function)
		}
	}
}

func TestRefoundKeepsFunctionsAndDropsNodes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.ok(member("n2"))
	l.ok(removeMember("n2"))
	named := deploy("cart", limited(2, 2))
	named.Id = "x"
	l.ok(named)
	l.ok(joinToken("j", 0, hour))
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: &clusterpb.Token{
		Id: "api", Hash: make([]byte, 32), Kind: clusterpb.TokenKind_TOKEN_KIND_API, Scopes: []clusterpb.Scope{1},
	}}}})
	l.raise(AccessKeyLevel)
	l.ok(accessKey("key", 0))
	old := l.view()
	v := old.Refound("other")
	if v.ClusterID() != "other" || v.Index() != 0 || v.MemberCount() != 0 || len(v.Tombstones()) != 0 || len(v.Assignments()) != 0 ||
		v.outcomes.Len() != 0 || len(v.Tokens()) != 1 || v.Token("api") == nil {
		t.Fatalf("the new cluster keeps something of the old nodes: %+v", v)
	}
	if !proto.Equal(v.Version(key("cart", 1)).Config, old.Version(key("cart", 1)).Config) {
		t.Fatal("the function differs")
	}
	s := New()
	if err := s.Restore(bytes.NewReader(snapshot(t, v))); err != nil {
		t.Fatal(err)
	}
	l.store, l.index = s, 0
	l.ok(member("n9", func(m *clusterpb.Member) { m.FeatureLevel = AccessKeyLevel }))
}
