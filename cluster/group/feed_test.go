package group

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// observer follows a group as a node beyond voters and standbys does.
type observer struct {
	record *record
	after  Index
	shots  int
}

// catchUp polls one member until it has nothing more to tell.
func (o *observer) catchUp(t *testing.T, g *Group) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		batch, err := g.Follow(ctx, o.after, 200)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if batch.SnapshotNeeded {
			index, r, err := g.OpenSnapshot(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(o.record.Restore(index, r), r.Close()); err != nil {
				t.Fatal(err)
			}
			o.after = index
			o.shots++
			continue
		}
		for _, e := range batch.Entries {
			o.record.Apply(e.Index, e.Data)
		}
		if batch.Through == o.after {
			return
		}
		o.after = batch.Through
	}
}

func TestObserverOfAnyMemberHasTheSameState(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	for i := range 30 {
		w.propose(fmt.Sprintf("k%d=%d", i, i))
	}
	w.agree(w.nodes...)
	for _, nd := range w.nodes {
		o := &observer{record: newRecord()}
		o.catchUp(t, nd.group)
		if got, want := o.record.read(), nd.fsm.read(); got.Hash != want.Hash || got.Count != want.Count {
			t.Errorf("observer of %s has %d entries, the member %d", nd.id, got.Count, want.Count)
		}
		if o.shots != 0 {
			t.Errorf("%d snapshots although the log was whole", o.shots)
		}
	}
}

func TestLateObserverTakesASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, func(c *Config) { c.Limits.TrailingEntries = 5 })
	nd := w.nodes[0]
	o := &observer{record: newRecord()}
	for i := range 40 {
		w.propose(fmt.Sprintf("k%d=%d", i, i))
		if i == 3 {
			o.catchUp(t, nd.group)
		}
	}
	if err := nd.group.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.propose("after=1")
	o.catchUp(t, nd.group)
	if got, want := o.record.read(), nd.fsm.read(); got.Hash != want.Hash {
		t.Errorf("observer has %d entries, the member %d", got.Count, want.Count)
	}
	if o.shots != 1 {
		t.Errorf("%d snapshots, want 1", o.shots)
	}
}

func TestFollowWaitsAndEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	w.propose("a=1")
	g := w.nodes[0].group
	after := g.Applied()
	got := make(chan Batch, 1)
	go func() {
		batch, err := g.Follow(t.Context(), after, 1<<20)
		if err != nil {
			t.Error(err)
		}
		got <- batch
	}()
	w.propose("b=1")
	select {
	case batch := <-got:
		if len(batch.Entries) != 1 || string(batch.Entries[0].Data) != "b=1" || batch.Through <= after {
			t.Errorf("batch %+v", batch)
		}
	case <-time.After(time.Minute):
		t.Fatal("a waiting follower was not woken")
	}
	go func() {
		_, err := g.Follow(t.Context(), g.Applied()+100, 1<<20)
		if !errors.Is(err, ErrClosed) {
			t.Errorf("follow across a close: %v", err)
		}
		got <- Batch{}
	}()
	w.nodes[0].kill()
	<-got
}

// An entry that only the old leader has must not reach an observer.
func TestFollowTellsCommittedEntriesOnly(t *testing.T) {
	t.Parallel()
	w := newVoters(t, 3, nil)
	w.propose("a=1")
	w.agree(w.nodes...)
	old := w.leader()
	o := &observer{record: newRecord()}
	w.isolate(old)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, _, err := old.group.Propose(ctx, []byte("lost=1"))
	if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("proposal without a majority: %v", err)
	}
	w.propose("kept=1")
	o.catchUp(t, old.group) // no quorum there, but it still serves
	if o.record.get("a") != "1" || o.record.get("lost") != "" {
		t.Errorf("observer of a cut-off member has %v", o.record.read().Values)
	}
	w.heal()
	w.agree(w.nodes...)
	o.catchUp(t, old.group)
	if o.record.get("kept") != "1" || o.record.get("lost") != "" {
		t.Errorf("observer has %v", o.record.read().Values)
	}
}

func TestOpenSnapshotWithoutOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	if _, _, err := w.nodes[0].group.OpenSnapshot(t.Context(), false); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("error %v", err)
	}
	w.propose("a=1")
	index, r, err := w.nodes[0].group.OpenSnapshot(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := newRecord()
	if err := got.Restore(index, r); err != nil || got.get("a") != "1" {
		t.Errorf("backup has %v, %v", got.read().Values, err)
	}
}
