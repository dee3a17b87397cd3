package scheduler

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestShouldStart(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tc := range []struct {
		name string
		in   ScaleInput
		want bool
	}{
		{"nobody waits", ScaleInput{Instances: 1, InFlight: 1}, false},
		{"first call", ScaleInput{Queued: 1}, true},
		{"the first start covers the second slot", ScaleInput{Queued: 2, Starting: 1, Concurrency: 2}, false},
		{"a burst starts one each", ScaleInput{Queued: 3, Starting: 2}, true},
		{"at the share", ScaleInput{Queued: 9, Instances: 1, Starting: 1, Max: 2}, false},
		{"short calls wait", ScaleInput{Queued: 1, InFlight: 1, Instances: 1, Service: ms, Cold: 5 * ms}, false},
		{"long calls do not", ScaleInput{Queued: 1, InFlight: 1, Instances: 1, Service: 20 * ms, Cold: 5 * ms}, true},
		{"short calls in a long queue do not", ScaleInput{Queued: 20, InFlight: 1, Instances: 1, Service: ms, Cold: 5 * ms}, true},
		{"many slots drain the same queue", ScaleInput{Queued: 20, InFlight: 10, Instances: 10, Service: ms, Cold: 5 * ms}, false},
		{"no call has ended yet", ScaleInput{Queued: 1, InFlight: 8, Instances: 8, Cold: 5 * ms}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := ShouldStart(tc.in); got != tc.want {
				t.Errorf("ShouldStart(%+v) = %v", tc.in, got)
			}
		})
	}
}

func TestBurstStartsWhatItNeedsAndNoMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		in := ScaleInput{
			Concurrency: rapid.IntRange(1, 8).Draw(r, "concurrency"),
			Max:         rapid.IntRange(0, 20).Draw(r, "max"),
		}
		calls := rapid.IntRange(1, 100).Draw(r, "calls")
		for in.Queued = 1; in.Queued <= calls; in.Queued++ {
			if ShouldStart(in) {
				in.Starting++
			}
		}
		want := (calls + in.Concurrency - 1) / in.Concurrency
		if in.Max > 0 {
			want = min(want, in.Max)
		}
		if in.Starting != want {
			r.Fatalf("%d calls started %d instances, want %d: %+v", calls, in.Starting, want, in)
		}
	})
}
