package invoke

import (
	"fmt"
	"math"
	"testing"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// split makes a second version and gives it a part of the calls of "live".
func (w *world) split(weight float64) {
	w.t.Helper()
	w.apply(&clusterpb.Command{Op: &clusterpb.Command_PutAlias{PutAlias: &clusterpb.PutAlias{
		App: "default", Function: "f", Alias: &clusterpb.Alias{Name: "live", Version: 1, Other: 2, OtherWeight: weight},
	}}})
}

func TestCallsWithTheSameKeyGetTheSameVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{
		App: "default", Name: "f", KeepLive: true, Config: w.store.View().Function("default", "f").Newest().Config,
	}}})
	const keys = 400
	versions := func() (of [keys]state.VersionNumber, second int) {
		w.t.Helper()
		for i := range keys {
			r := &run{path: w.path, req: &Request{App: "default", Function: "f", Key: fmt.Sprint("customer-", i)}}
			for again := range 3 {
				_, v, err := r.resolve(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if again > 0 && v.Key.Number != of[i] {
					t.Fatalf("customer-%d got versions %d and %d", i, of[i], v.Key.Number)
				}
				of[i] = v.Key.Number
			}
			if of[i] == 2 {
				second++
			}
		}
		return of, second
	}
	w.split(0.25)
	before, few := versions()
	w.split(0.6)
	after, more := versions()
	for i := range keys {
		if before[i] == 2 && after[i] != 2 {
			t.Errorf("customer-%d lost version 2 when its weight grew", i)
		}
	}
	// These keys are what they are: no chance is in this.
	if math.Abs(float64(few)/keys-0.25) > 0.08 || math.Abs(float64(more)/keys-0.6) > 0.08 {
		t.Errorf("%d, then %d of %d keys got version 2", few, more, keys)
	}
}

func TestRecordTellsThatACallHadAKeyAndNotWhich(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if _, err := w.invoke(&Request{ID: "r1", Key: "customer-17"}); err != nil {
		t.Fatal(err)
	}
	rec, ok := w.path.cfg.Records.Find("r1")
	if !ok || !rec.Keyed {
		t.Errorf("record %+v, found %v", rec, ok)
	}
}

func TestKeysAreHashedForEver(t *testing.T) {
	t.Parallel()
	if got := keyOf("shop", "checkout", "customer-17"); got != 0xe6b205d93aa8e1c5 {
		t.Errorf("%#x", got)
	}
	if keyOf("a", "b", "c") == keyOf("a", "c", "b") || pickOf(math.MaxUint64) >= 1 || pickOf(0) != 0 {
		t.Error("hashes collide or picks are out of range")
	}
}
