package state

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// R18: a command that this release cannot read stops the applying, with a
// reason, and nothing else.
func TestR18UnreadableCommandsHaltTheStore(t *testing.T) {
	t.Parallel()
	raise := &clusterpb.Command{Level: 1, Op: &clusterpb.Command_RaiseFeatureLevel{
		RaiseFeatureLevel: &clusterpb.RaiseFeatureLevel{FeatureLevel: FeatureLevel + 1},
	}}
	// A field that a later release may add, at the top and two levels down.
	foreign := protowire.AppendVarint(protowire.AppendTag(nil, 2000, protowire.VarintType), 7)
	inner := deploy("f")
	inner.GetDeploy().GetConfig().GetArtifacts()[0].ProtoReflect().SetUnknown(foreign)
	outer := deploy("f")
	outer.ProtoReflect().SetUnknown(foreign)
	cases := []struct {
		name  string
		data  []byte
		err   error
		words string
	}{
		{"noise", []byte{0xff, 0x01, 0x02}, ErrUndecodable, "command 3"},
		{"empty", nil, ErrUndecodable, "no operation"},
		{"level", encode(t, &clusterpb.Command{Level: 9, Op: deploy("f").Op}), ErrTooNew, fmt.Sprintf("needs feature level 9, this release knows %d: upgrade", FeatureLevel)},
		{"raise", encode(t, raise), ErrTooNew, fmt.Sprint("feature level ", FeatureLevel+1)},
		{"inner field", encode(t, inner), ErrTooNew, "covey.cluster.v1.Artifact"},
		{"outer field", encode(t, outer), ErrTooNew, "covey.cluster.v1.Command"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.ok(deploy("cart"))
			before := l.view()
			_, err := l.store.Apply(3, c.data)
			halt, ok := errors.AsType[*HaltError](err)
			if !ok || !errors.Is(err, c.err) || halt.Index != 3 || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("apply returned %v, want %v with %q", err, c.err, c.words)
			}
			if l.view() != before {
				t.Fatal("the view changed")
			}
			// The next good entry must not be applied over the gap.
			if _, err := l.store.Apply(4, encode(t, deploy("cart"))); !errors.Is(err, c.err) || l.store.Halted() == nil {
				t.Fatalf("after the halt apply returned %v", err)
			}
			if err := l.store.Restore(strings.NewReader(string(snapshot(t, before)))); err != nil || l.store.Halted() != nil {
				t.Fatalf("restore returned %v, halted is %v", err, l.store.Halted())
			}
		})
	}
}

// R18: a bug in a command is a halt on every node, not a crash loop of all.
func TestR18PanicInApplyBecomesAHalt(t *testing.T) {
	t.Parallel()
	halt := guard(7, func() { panic("index out of range") })
	if halt == nil || halt.Index != 7 || !strings.Contains(halt.Error(), "index out of range") {
		t.Fatalf("guard returned %v", halt)
	}
	if halt := guard(7, func() {}); halt != nil {
		t.Fatalf("guard returned %v for sound work", halt)
	}
}

func TestReplayedIndexChangesNothingAndDoesNotHalt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	before := l.view()
	if _, err := l.store.Apply(l.index, l.log[0]); !errors.Is(err, ErrIndex) {
		t.Fatalf("apply returned %v", err)
	}
	if l.store.Halted() != nil || l.view() != before {
		t.Fatal("a replayed index did something")
	}
	l.index += 10 // Raft's own entries take indexes too.
	l.ok(deploy("cart"))
	if l.view().Index() != l.index {
		t.Fatalf("index is %d, want %d", l.view().Index(), l.index)
	}
}

func TestCommandLevelAboveTheClusterIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	v := *l.view()
	v.level = 0
	cmd := deploy("cart")
	cmd.Level = 1
	_, res := v.apply(9, cmd)
	if res.GetRefusal().GetCode() != codeLevel {
		t.Fatalf("result is %v", res)
	}
}

func TestStateTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	want := l.view().Time()
	l.now -= 60_000
	l.ok(deploy("cart"))
	if got := l.view().Time(); !got.Equal(want) {
		t.Fatalf("time is %v, want %v", got, want)
	}
}

func TestRepeatedCommandIDGetsTheFirstResult(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cmd := deploy("cart")
	cmd.Id = "01J"
	first := l.ok(cmd)
	again := l.ok(cmd)
	want := proto.CloneOf(first)
	want.Duplicate = true
	if !proto.Equal(again, want) || first.GetDuplicate() {
		t.Fatalf("the second result is %v, want %v", again, want)
	}
	if f := l.view().Function("shop", "cart"); f.LastVersion != 1 {
		t.Fatalf("the command was applied again: version %d", f.LastVersion)
	}
	refused := deleteFunction("none")
	refused.Id = "02J"
	l.no(refused, codeNotFound, "none")
	l.no(refused, codeNotFound, "none")
	long := deploy("cart")
	long.Id = strings.Repeat("x", maxID+1)
	l.no(long, codeInvalid, "command id")
}

func TestWindowOfOutcomesIsBoundedByTimeAndCount(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cmd := deploy("cart")
	cmd.Id = "old"
	l.ok(cmd)
	l.now += windowTime.Milliseconds()
	if res := l.ok(cmd); res.GetDuplicate() || res.GetVersion() != 2 {
		t.Fatalf("after the window the result is %v", res)
	}
	for i := range windowCount + 10 {
		c := draining("none", true)
		c.Id = fmt.Sprint("id-", i)
		l.now -= 1000
		l.do(c)
	}
	v := l.view()
	if v.recent.Len() != windowCount || v.outcomes.Len() != windowCount {
		t.Fatalf("%d and %d outcomes are kept, want %d", v.recent.Len(), v.outcomes.Len(), windowCount)
	}
	l.now++
	if res := l.do(cmd); res.GetDuplicate() {
		t.Fatal("the oldest outcome was kept beyond the bound")
	}
}

func TestEncodeRefusesOversizedCommands(t *testing.T) {
	t.Parallel()
	cmd := deploy("f", func(c *clusterpb.VersionConfig) { c.Description = strings.Repeat("x", maxCommandBytes) })
	if _, err := Encode(cmd); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Fatalf("encode returned %v", err)
	}
}

func encode(t testing.TB, cmd *clusterpb.Command) []byte {
	t.Helper()
	data, err := Encode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// BenchmarkApplyDeploy is one write into a cluster of 2,000 functions.
func BenchmarkApplyDeploy(b *testing.B) {
	l := newLab(b)
	l.ok(member("n1"))
	for i := range 2000 {
		l.ok(deploy(fmt.Sprint("fn-", i)))
	}
	l.log = nil
	data := encode(b, &clusterpb.Command{Level: 1, TimeUnixMs: l.now, Op: deploy("fn-7", limited(8, 64)).Op})
	b.ReportAllocs()
	for b.Loop() {
		l.index++
		if res, err := l.store.Apply(l.index, data); err != nil || res.GetRefusal() != nil {
			b.Fatal(err, res)
		}
	}
}

// BenchmarkSnapshot writes a cluster of 2,000 functions.
func BenchmarkSnapshot(b *testing.B) {
	l := newLab(b)
	for i := range 2000 {
		l.ok(deploy(fmt.Sprint("fn-", i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(snapshot(b, l.view()))))
	}
}
