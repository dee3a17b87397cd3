package assign

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

func TestWindowsOpenAndCloseByTheClockOfTheirZone(t *testing.T) {
	t.Parallel()
	const monFri, friday = 0b0111110, 1 << 5
	day := func(change func(*clusterpb.Provision)) *clusterpb.Provision {
		w := &clusterpb.Provision{Count: 4, FromMinute: 8 * 60, ToMinute: 18 * 60, Days: monFri, Zone: "Europe/Berlin"}
		if change != nil {
			change(w)
		}
		return w
	}
	night := day(func(w *clusterpb.Provision) { w.FromMinute, w.ToMinute, w.Days, w.Zone = 22*60, 6*60, friday, "" })
	for _, tc := range []struct {
		name string
		at   string
		w    *clusterpb.Provision
		want int
	}{
		{"a minute before, in winter", "2026-11-27T06:59:59Z", day(nil), 1},
		{"at its start", "2026-11-27T07:00:00Z", day(nil), 4},
		{"the last second", "2026-11-27T16:59:59Z", day(nil), 4},
		{"its end is not part of it", "2026-11-27T17:00:00Z", day(nil), 1},
		{"an hour earlier by UTC in summer", "2026-07-24T06:00:00Z", day(nil), 4},
		{"not on Saturday", "2026-11-28T12:00:00Z", day(nil), 1},
		{"all days", "2026-11-28T12:00:00Z", day(func(w *clusterpb.Provision) { w.Days = 0 }), 4},
		{"until midnight", "2026-11-27T22:59:00Z", day(func(w *clusterpb.Provision) { w.ToMinute = 24 * 60 }), 4},
		{"the whole day", "2026-11-27T02:00:00Z", day(func(w *clusterpb.Provision) { w.FromMinute, w.ToMinute = 0, 0 }), 4},
		{"fewer than min", "2026-11-27T12:00:00Z", day(func(w *clusterpb.Provision) { w.Count = 1 }), 1},
		{"over midnight, before it", "2026-11-27T22:00:00Z", night, 4},
		{"over midnight, after it", "2026-11-28T05:59:00Z", night, 4},
		{"over midnight, its end", "2026-11-28T06:00:00Z", night, 1},
		{"over midnight, the day before", "2026-11-27T05:00:00Z", night, 1},
		{"a zone that nobody knows is UTC", "2026-11-27T08:00:00Z", day(func(w *clusterpb.Provision) { w.Zone = "Mars/Base" }), 4},
	} {
		at, err := time.Parse(time.RFC3339, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		cfg := &clusterpb.VersionConfig{Min: 1, Provisioned: []*clusterpb.Provision{{Count: 9, FromMinute: 1, ToMinute: 2}, tc.w}}
		if got := provisionedAt(cfg, at, zones{}); got != tc.want {
			t.Errorf("%s: %d are warm, want %d", tc.name, got, tc.want)
		}
	}
}

// deployWindow deploys a function with a window of UTC.
func (s *scenario) deployWindow(name string, count, from, to uint32) error {
	cfg := state.WithDefaults(&clusterpb.VersionConfig{
		Runtime: "go", Queue: proto.Uint32(10), Artifacts: []*clusterpb.Artifact{{Digest: digestOfTests}},
		Provisioned: []*clusterpb.Provision{{Count: count, FromMinute: from, ToMinute: to}},
	})
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{App: "shop", Name: name, Config: cfg}}})
	return err
}

func TestLoopFollowsTheWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, "n1")
		// The bubble's clock begins at midnight UTC, the first of January 2000.
		c.change(t, func() error { return c.scenario.deployWindow("f", 3, 2, 5) })
		stop := lead(t, c)
		defer stop()
		for _, at := range []struct {
			wait time.Duration
			want string
		}{
			{90 * time.Second, "none"},
			{60 * time.Second, "shop/f:1: everywhere n1(max 0 queue 10 warm 3)"},
			{2 * time.Minute, "shop/f:1: everywhere n1(max 0 queue 10 warm 3)"},
			{time.Minute, "none"},
		} {
			time.Sleep(at.wait)
			synctest.Wait()
			if got := c.shares(); got != at.want {
				t.Errorf("at %s: %s, want %s", time.Now().UTC().Format(time.TimeOnly), got, at.want)
			}
		}
	})
}
