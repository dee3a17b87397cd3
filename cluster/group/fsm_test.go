package group

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// broken is a state machine that can do nothing.
type broken struct{ err error }

func (b broken) Apply(Index, []byte) any        { return b.err }
func (b broken) Snapshot() (Snapshot, error)    { return nil, b.err }
func (b broken) Restore(Index, io.Reader) error { return b.err }

// sink collects a snapshot.
type sink struct {
	bytes.Buffer
	full error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.full != nil {
		return 0, s.full
	}
	return s.Buffer.Write(p)
}

func (*sink) ID() string    { return "s" }
func (*sink) Cancel() error { return nil }
func (*sink) Close() error  { return nil }

func TestBridgeCountsWhatASnapshotSaves(t *testing.T) {
	t.Parallel()
	b := newBridge(newRecord())
	_, changed := b.progress()
	b.Apply(&raft.Log{Index: 3, Data: []byte("a=1")})
	select {
	case <-changed:
	default:
		t.Error("waiters are not woken")
	}
	b.StoreConfiguration(4, raft.Configuration{})
	if index, _ := b.progress(); index != 4 {
		t.Errorf("applied %d, want 4", index)
	}
	if entries, size := b.sinceSnapshot(); entries != 2 || size != 3 {
		t.Errorf("%d entries, %d bytes", entries, size)
	}
	s, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var out sink
	if err := s.Persist(&out); err != nil {
		t.Fatal(err)
	}
	if entries, size := b.sinceSnapshot(); entries != 0 || size != 0 {
		t.Errorf("%d entries, %d bytes after a snapshot", entries, size)
	}
	restored := newBridge(newRecord())
	reader := &snapshotReader{ReadCloser: io.NopCloser(&out.Buffer), index: 9}
	if err := restored.Restore(reader); err != nil {
		t.Fatal(err)
	}
	if index, _ := restored.progress(); index != 9 || restored.fsm.(*record).get("a") != "1" {
		t.Errorf("restored at %d: %v", index, restored.fsm)
	}
}

func TestBridgePassesErrorsOn(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	b := newBridge(broken{boom})
	if got := b.Apply(&raft.Log{Index: 1}); got != boom {
		t.Errorf("apply answered %v", got)
	}
	if _, err := b.Snapshot(); !errors.Is(err, boom) {
		t.Errorf("snapshot: %v", err)
	}
	reader := &snapshotReader{ReadCloser: io.NopCloser(&bytes.Buffer{}), index: 9}
	if err := b.Restore(reader); !errors.Is(err, boom) {
		t.Errorf("restore: %v", err)
	}
	if index, _ := b.progress(); index != 1 {
		t.Errorf("a failed restore moved the index to %d", index)
	}
	if err := b.Restore(io.NopCloser(&bytes.Buffer{})); err == nil {
		t.Error("a snapshot of unknown origin was restored")
	}
	p := &persister{frozen{state: []byte("x")}}
	if err := p.Persist(&sink{full: boom}); !errors.Is(err, boom) {
		t.Errorf("persist: %v", err)
	}
}

func FuzzHealth(f *testing.F) {
	f.Add(int64(-1), uint64(3), uint64(1<<63))
	f.Fuzz(func(t *testing.T, contact int64, term, index uint64) {
		want := health{lastContact: time.Duration(contact), lastTerm: term, lastIndex: index}
		b := want.encode()
		if got := decodeHealth(b); got != want || len(b) != healthSize {
			t.Errorf("%+v became %+v", want, got)
		}
	})
}
