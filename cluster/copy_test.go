package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// encoded returns a command as the log holds it.
func encoded(t testing.TB, command *clusterpb.Command) []byte {
	t.Helper()
	if command.Level == 0 {
		command.Level = 1
	}
	data, err := state.Encode(command)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func foundCommand(t testing.TB) []byte {
	return encoded(t, &clusterpb.Command{Op: &clusterpb.Command_FoundCluster{
		FoundCluster: &clusterpb.FoundCluster{ClusterId: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", FeatureLevel: 1},
	}})
}

func limitsCommand(t testing.TB, app string, n uint32) []byte {
	return encoded(t, &clusterpb.Command{Op: &clusterpb.Command_PutLimits{
		PutLimits: &clusterpb.PutLimits{App: app, Limits: &clusterpb.Limits{Functions: n}},
	}})
}

// testMachine opens a machine in a directory; it closes with the test.
func testMachine(t *testing.T, dir string) *machine {
	t.Helper()
	m, err := newMachine(dir, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// apply applies a command and fails the test if the state refuses it.
func apply(t *testing.T, m *machine, index group.Index, data []byte) {
	t.Helper()
	a := m.Apply(index, data).(applied)
	if a.err != nil {
		t.Fatalf("apply %d: %v", index, a.err)
	}
	if err := state.Refused(a.result); err != nil {
		t.Fatalf("apply %d: %v", index, err)
	}
}

func limitOf(m *machine, app string) uint32 {
	a := m.View().App(state.AppName(app))
	if a == nil || a.Limits == nil {
		return 0
	}
	return a.Limits.GetFunctions()
}

func TestCopySurvivesTheEndOfTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := testMachine(t, dir)
	apply(t, m, 3, foundCommand(t))
	for i := range uint32(50) {
		apply(t, m, group.Index(10+2*i), limitsCommand(t, "app", i))
	}
	// No Close: the process was killed.
	again := testMachine(t, dir)
	if got, want := again.View().Hash(), m.View().Hash(); got != want {
		t.Errorf("state differs after the kill")
	}
	a, _ := m.Position()
	if b, _ := again.Position(); a != b {
		t.Errorf("position is %d, was %d", b, a)
	}
}

// TestCopyBecomesASnapshotInTime: the journal does not grow for ever, and what is
// read back is the same.
func TestCopyBecomesASnapshotInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := testMachine(t, dir)
	apply(t, m, 1, foundCommand(t))
	m.copy.limit = 2000
	for i := range uint32(500) {
		apply(t, m, group.Index(2+i), limitsCommand(t, fmt.Sprintf("app-%d", i%7), i))
	}
	m.copy.limit = 2000
	info, err := os.Stat(filepath.Join(dir, copyJournalFile))
	if err != nil || info.Size() > journalMin+1000 {
		t.Errorf("journal has %d bytes, %v", info.Size(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, copySnapshotFile)); err != nil {
		t.Error(err)
	}
	again := testMachine(t, dir)
	if again.View().Hash() != m.View().Hash() {
		t.Error("state differs")
	}
}

// TestDamagedCopyIsAnOlderState: whatever is cut or flipped, the copy loads some
// earlier state, never a wrong one.
func TestDamagedCopyIsAnOlderState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := testMachine(t, dir)
	hashes := map[string]bool{m.View().Hash(): true}
	apply(t, m, 1, foundCommand(t))
	hashes[m.View().Hash()] = true
	for i := range uint32(20) {
		if i == 10 {
			m.copy.rewrite(11, m.View())
		}
		apply(t, m, group.Index(2+i), limitsCommand(t, "app", i+1))
		hashes[m.View().Hash()] = true
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	snapshot, journal := read(copySnapshotFile), read(copyJournalFile)
	damage := func(name string, s, j []byte) {
		t.Helper()
		other := t.TempDir()
		for file, data := range map[string][]byte{copySnapshotFile: s, copyJournalFile: j} {
			if err := os.WriteFile(filepath.Join(other, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := testMachine(t, other)
		if !hashes[got.View().Hash()] {
			t.Errorf("%s: loaded a state that never was", name)
		}
		// It goes on from there as if nothing had happened.
		position, _ := got.Position()
		if got.View().ClusterID() == "" {
			apply(t, got, group.Index(position+1), foundCommand(t))
		}
		apply(t, got, group.Index(position+2), limitsCommand(t, "after", 1))
		if again := testMachine(t, other); again.View().Hash() != got.View().Hash() {
			t.Errorf("%s: copy is not usable any more", name)
		}
	}
	for n := 0; n < len(journal); n += 7 {
		damage(fmt.Sprintf("journal cut at %d", n), snapshot, journal[:n])
		flipped := bytes.Clone(journal)
		flipped[n] ^= 0x10
		damage(fmt.Sprintf("journal flipped at %d", n), snapshot, flipped)
	}
	for n := 0; n < len(snapshot); n += 13 {
		damage(fmt.Sprintf("snapshot cut at %d", n), snapshot[:n], journal)
		flipped := bytes.Clone(snapshot)
		flipped[n] ^= 0x10
		if n >= len(copyMagic) && n < len(copyMagic)+8 {
			continue // The position alone says nothing about the state.
		}
		damage(fmt.Sprintf("snapshot flipped at %d", n), flipped, journal)
	}
}

// TestCopyThatCannotBeWrittenStopsNothing: the state goes on, and the copy comes
// back as a snapshot once it can.
func TestCopyThatCannotBeWrittenStopsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := testMachine(t, dir)
	apply(t, m, 1, foundCommand(t))
	apply(t, m, 2, limitsCommand(t, "app", 2))
	_ = m.copy.journal.Close() // From here on writes fail.
	apply(t, m, 3, limitsCommand(t, "app", 3))
	apply(t, m, 4, limitsCommand(t, "app", 4))
	if got := limitOf(testMachine(t, dir), "app"); got != 2 {
		t.Errorf("broken copy reads %d, want the state before the failure", got)
	}
	m.copy.retry = m.copy.retry.Add(-copyRetry)
	apply(t, m, 5, limitsCommand(t, "app", 5))
	if got := limitOf(testMachine(t, dir), "app"); got != 5 {
		t.Errorf("mended copy reads %d, want 5", got)
	}
}

func FuzzReadCommand(f *testing.F) {
	f.Add(appendCommand(appendCommand(nil, 7, []byte("data")), 8, nil))
	f.Add([]byte("nonsense that is no record at all"))
	f.Fuzz(func(t *testing.T, journal []byte) {
		r := bytes.NewReader(journal)
		var again []byte
		for {
			index, data, err := readCommand(r)
			if errors.Is(err, io.EOF) && r.Len() == 0 && len(again) == len(journal) {
				break
			}
			if err != nil {
				break
			}
			again = appendCommand(again, index, data)
		}
		if !bytes.HasPrefix(journal, again) {
			t.Fatal("records that were read are not those that were written")
		}
	})
}
