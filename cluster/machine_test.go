package cluster

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

func snapshotOf(t *testing.T, m *machine) *bytes.Buffer {
	t.Helper()
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestMachineTakesEachCommandOnce: from Raft and from the feed, in any overlap.
func TestMachineTakesEachCommandOnce(t *testing.T) {
	t.Parallel()
	m := testMachine(t, t.TempDir())
	commands := [][]byte{foundCommand(t), limitsCommand(t, "app", 1), limitsCommand(t, "app", 2)}
	for i, c := range commands {
		apply(t, m, group.Index(i+1), c)
	}
	want := m.View().Hash()
	for i, c := range commands {
		if a := m.Apply(group.Index(i+1), c).(applied); !errors.Is(a.err, state.ErrIndex) {
			t.Errorf("command %d again: %v, want ErrIndex", i+1, a.err)
		}
	}
	m.skipTo(2)
	if err := m.Restore(2, bytes.NewReader(nil)); err != nil {
		t.Errorf("older snapshot is not ignored: %v", err)
	}
	if got, _ := m.Position(); m.View().Hash() != want || got != 3 {
		t.Errorf("state changed, position is %d", got)
	}
	m.skipTo(9)
	if a := m.Apply(7, commands[1]).(applied); !errors.Is(a.err, state.ErrIndex) {
		t.Errorf("command below the position: %v, want ErrIndex", a.err)
	}
}

func TestMachineRestoresForwardAndReplacesAnyway(t *testing.T) {
	t.Parallel()
	source := testMachine(t, t.TempDir())
	apply(t, source, 1, foundCommand(t))
	apply(t, source, 2, limitsCommand(t, "app", 7))
	snapshot := snapshotOf(t, source).Bytes()

	dir := t.TempDir()
	m := testMachine(t, dir)
	if err := m.Restore(5, bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	if position, _ := m.Position(); position != 5 || limitOf(m, "app") != 7 {
		t.Fatalf("restored to position %d, limit %d", position, limitOf(m, "app"))
	}
	apply(t, m, 20, limitsCommand(t, "app", 8))
	// Another history of the log: back to what the snapshot says.
	if err := m.replace(4, bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	if position, _ := m.Position(); position != 4 || limitOf(m, "app") != 7 {
		t.Errorf("replaced to position %d, limit %d", position, limitOf(m, "app"))
	}
	again := testMachine(t, dir)
	if position, _ := again.Position(); position != 4 || limitOf(again, "app") != 7 {
		t.Errorf("after a restart position %d, limit %d", position, limitOf(again, "app"))
	}
	if err := m.replace(30, bytes.NewReader(snapshot[:len(snapshot)/2])); err == nil {
		t.Error("half a snapshot was taken")
	}
	if position, _ := m.Position(); position != 4 {
		t.Errorf("half a snapshot moved the position to %d", position)
	}
}

// TestR18UnknownCommandHaltsAndServes: a command of a newer release stops the
// applying, on this node for good, and never the reads.
func TestR18UnknownCommandHaltsAndServes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := testMachine(t, dir)
	apply(t, m, 1, foundCommand(t))
	apply(t, m, 2, limitsCommand(t, "app", 1))
	newer := protowire.AppendTag(limitsCommand(t, "app", 2), 4000, protowire.VarintType)
	newer = protowire.AppendVarint(newer, 1)
	if a := m.Apply(3, newer).(applied); !errors.Is(a.err, state.ErrTooNew) {
		t.Fatalf("newer command: %v, want ErrTooNew", a.err)
	}
	for i := range 3 {
		if a := m.Apply(group.Index(4+i), limitsCommand(t, "app", 9)).(applied); a.err == nil {
			t.Error("halted machine applies the next command: it would have skipped one")
		}
	}
	m.skipTo(10)
	if position, _ := m.Position(); position != 2 || limitOf(m, "app") != 1 {
		t.Errorf("position %d, limit %d after the halt", position, limitOf(m, "app"))
	}
	if m.Halted() == nil {
		t.Error("machine does not say that it halted")
	}
	if _, err := m.Snapshot(); err == nil {
		t.Error("halted machine makes a snapshot that lacks a command")
	}
	if again := testMachine(t, dir); limitOf(again, "app") != 1 {
		t.Error("halted state was not kept")
	}
}

// TestSnapshotOfANewerReleaseHaltsAndServes: the same by way of a snapshot. An
// error would make Raft end the process.
func TestSnapshotOfANewerReleaseHaltsAndServes(t *testing.T) {
	t.Parallel()
	m := testMachine(t, t.TempDir())
	apply(t, m, 1, foundCommand(t))
	apply(t, m, 2, limitsCommand(t, "app", 1))
	header := &clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Header{Header: &clusterpb.SnapshotHeader{
		Format: 99, FeatureLevel: 1, ClusterId: "c", Index: 9,
	}}}
	if err := m.Restore(9, delimited(t, header)); err != nil {
		t.Fatalf("restore: %v", err)
	}
	if !errors.Is(m.Halted(), state.ErrTooNew) || limitOf(m, "app") != 1 {
		t.Errorf("halted %v, limit %d", m.Halted(), limitOf(m, "app"))
	}
	if a := m.Apply(10, limitsCommand(t, "app", 2)).(applied); a.err == nil {
		t.Error("applies a command to a state that lacks a snapshot")
	}
	if err := m.Restore(11, io.LimitReader(delimited(t, header), 2)); err == nil {
		t.Error("damaged snapshot is taken for a newer one")
	}
}
