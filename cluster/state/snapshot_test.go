package state

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// goldenLab is a fixed log that touches every table.
func goldenLab(t testing.TB) *lab {
	l := newLab(t)
	for _, id := range []string{"n1", "n2", "n3", "n4"} {
		l.ok(member(id))
	}
	l.ok(removeMember("n4"))
	l.ok(draining("n3", true))
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_SetRole{SetRole: &clusterpb.SetRole{Id: "n1", Role: clusterpb.Role_ROLE_VOTER}}})
	l.ok(deploy("cart", limited(5, 64), func(c *clusterpb.VersionConfig) {
		c.Min, c.Env, c.Labels = 2, map[string]string{"MODE": "fast", "ZONE": "b"}, map[string]string{"team": "shop"}
	}))
	named := deploy("cart")
	named.Id = "01K0GOLDEN"
	l.ok(named)
	l.ok(putAlias("cart", &clusterpb.Alias{Name: "beta", Version: 1, Other: 2, OtherWeight: 0.125, Description: "canary"}, 0))
	l.ok(deploy("gone"))
	l.ok(deleteFunction("gone"))
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_PutLimits{PutLimits: &clusterpb.PutLimits{App: "shop", Limits: &clusterpb.Limits{Functions: 9}}}})
	l.ok(joinToken("join-1", 3, hour))
	l.ok(useToken("join-1", "n5"))
	l.ok(usage("n1", 4, 7, hourOf, "cart", 12))
	return l
}

// goldenLab2 is the same log and what feature level 2 added.
func goldenLab2(t testing.TB) *lab {
	l := goldenLab(t)
	l.raise(2)
	l.ok(accessKey("CVKAGOLDEN0000000001", hour, func(k *clusterpb.Token) { k.App, k.Description = "shop", "ci" }))
	return l
}

// goldenLab3 is the log of level 2 and what feature level 3 added.
func goldenLab3(t testing.TB) *lab {
	l := goldenLab2(t)
	l.raise(3)
	l.ok(deploy("till", func(c *clusterpb.VersionConfig) {
		c.Reserved, c.Rate = 5, &clusterpb.Rate{PerSecond: 100, Burst: 200}
		c.Provisioned = []*clusterpb.Provision{{Count: 4, FromMinute: 480, ToMinute: 1080, Days: 62, Zone: "Europe/Berlin"}}
	}))
	l.ok(putReservation("till", ShareChange{Node: "n1", Share: 1}))
	return l
}

// goldens are the logs that testdata holds, one for each feature level.
func goldens() map[string]func(testing.TB) *lab {
	return map[string]func(testing.TB) *lab{"1": goldenLab, "2": goldenLab2, "3": goldenLab3}
}

// TestGoldenSnapshotOpens reads snapshots that earlier releases wrote. A file is
// never rewritten for a newer format: that one gets a file of its own.
func TestGoldenSnapshotOpens(t *testing.T) {
	t.Parallel()
	for level, golden := range goldens() {
		t.Run(level, func(t *testing.T) { openGolden(t, level, golden) })
	}
}

func openGolden(t *testing.T, level string, golden func(testing.TB) *lab) {
	t.Parallel()
	path := filepath.Join("testdata", "snapshot-"+level+".bin")
	want := golden(t).view()
	if *update {
		if err := os.WriteFile(path, snapshot(t, want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	// The golden log still leads to the state in the file: no command changed
	// its meaning.
	if got.Hash() != want.Hash() {
		t.Fatalf("the file holds state %s, its log now leads to %s", got.Hash(), want.Hash())
	}
	beta := got.Function("shop", "cart").Alias("beta")
	if got.ClusterID() != "cluster-1" || beta.OtherWeight != 0.125 || !got.Removed("n4") || !got.Member("n3").Draining ||
		got.Token("join-1").UsedBy[0] != "n5" || got.UsageReported("n1", 4) != 7 || got.repeated("01K0GOLDEN").GetVersion() != 2 ||
		got.retired.Len() != 1 || got.App("shop").Limits.GetFunctions() != 9 || len(got.Assignment(key("cart", 1)).Places) != 2 {
		t.Fatal("the file lost something")
	}
	if key := got.Token("CVKAGOLDEN0000000001"); level == "2" && (key == nil || key.App != "shop" || string(key.Sealed) != "sealed CVKAGOLDEN0000000001") {
		t.Fatalf("the file lost the access key: %+v", key)
	}
	if r := got.Reservation(FunctionKey{"shop", "till"}); level == "3" && (r == nil || r.Longest != DefaultTimeout || r.Place("n1").Share != 1 || r.Place("n1").Since == 0) {
		t.Fatalf("the file lost the reservation: %+v", r)
	}
}

// TestGoldenLogReplays applies log entries that earlier releases wrote: they must
// decode for ever, and lead to the state of the golden snapshot.
func TestGoldenLogReplays(t *testing.T) {
	t.Parallel()
	for level, golden := range goldens() {
		t.Run(level, func(t *testing.T) { replayGolden(t, level, golden) })
	}
}

func replayGolden(t *testing.T, level string, golden func(testing.TB) *lab) {
	t.Parallel()
	path := filepath.Join("testdata", "log-"+level+".bin")
	if *update {
		var buf bytes.Buffer
		for _, entry := range golden(t).log {
			buf.Write(protowire.AppendBytes(nil, entry))
		}
		if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	for len(data) > 0 {
		entry, n := protowire.ConsumeBytes(data)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		if _, err := s.Apply(s.View().Index()+1, entry); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	snap, err := os.ReadFile(filepath.Join("testdata", "snapshot-"+level+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, s.View()), snap) {
		t.Fatal("the old log leads to another state than it did")
	}
}

func TestDamagedSnapshotsAreRefusedAndChangeNothing(t *testing.T) {
	t.Parallel()
	good := snapshot(t, goldenLab(t).view())
	l := newLab(t)
	before := l.view()
	refuse := func(what string, data []byte) {
		t.Helper()
		err := l.store.Restore(bytes.NewReader(data))
		if _, ok := errors.AsType[*HaltError](err); !ok {
			t.Errorf("%s: restore returned %v", what, err)
		}
		if l.view() != before {
			t.Fatalf("%s: the state changed", what)
		}
	}
	for n := range len(good) {
		refuse("cut short", good[:n])
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		refuse("bit flipped", bad)
	}
}

func TestSnapshotsOfNewerReleasesAreRefused(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*clusterpb.SnapshotHeader{
		"format": {Format: snapshotFormat + 1, FeatureLevel: 1},
		"level":  {Format: snapshotFormat, FeatureLevel: FeatureLevel + 1},
	} {
		var buf bytes.Buffer
		rec := &clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Header{Header: h}}
		if _, err := protodelim.MarshalTo(&buf, rec); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSnapshot(&buf); !errors.Is(err, ErrTooNew) {
			t.Errorf("%s: reading returned %v", name, err)
		}
	}
}

func TestSnapshotReportsTheDisk(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left")
	v := goldenLab(t).view()
	if err := v.Snapshot(writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("writing returned %v", err)
	}
	r := io.MultiReader(bytes.NewReader(snapshot(t, v)[:100]), iotest.ErrReader(full))
	if _, err := ReadSnapshot(r); !errors.Is(err, full) {
		t.Errorf("reading returned %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// FuzzRestore: no input panics or changes the state unless it is a whole
// snapshot, and what was accepted can take commands.
func FuzzRestore(f *testing.F) {
	good := snapshot(f, goldenLab(f).view())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	next := encode(f, &clusterpb.Command{Level: 1, TimeUnixMs: epoch * 2, Op: deploy("cart").Op})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New()
		before := s.View()
		if err := s.Restore(bytes.NewReader(data)); err != nil {
			if s.View() != before {
				t.Fatal("a refused snapshot changed the state")
			}
			return
		}
		if _, err := s.Apply(s.View().Index()+1, next); err != nil && s.View().Index() < 1<<62 {
			t.Fatal(err)
		}
		_ = s.View().Hash()
	})
}

// FuzzApply: no entry panics (guard would turn it into a halt that is neither
// undecodable nor too new), and an entry applies alike on two replicas.
func FuzzApply(f *testing.F) {
	for _, data := range goldenLab3(f).log {
		f.Add(data)
	}
	base := snapshot(f, goldenLab3(f).view())
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := New(), New()
		for _, s := range []*Store{a, b} {
			if err := s.Restore(bytes.NewReader(base)); err != nil {
				t.Fatal(err)
			}
		}
		index := a.View().Index() + 1
		resA, errA := a.Apply(index, data)
		resB, _ := b.Apply(index, data)
		if errA != nil && !errors.Is(errA, ErrUndecodable) && !errors.Is(errA, ErrTooNew) {
			t.Fatal(errA)
		}
		if !proto.Equal(resA, resB) || a.View().Hash() != b.View().Hash() {
			t.Fatal("two replicas differ")
		}
		if err := New().Restore(bytes.NewReader(snapshot(t, a.View()))); err != nil {
			t.Fatalf("the state after the entry cannot be restored: %v", err)
		}
	})
}
