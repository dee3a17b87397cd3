package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/node/client/wire"
)

// busyTop is a report of three nodes, one of which does not answer.
func busyTop(interval string) *wire.Top {
	window, err := time.ParseDuration(interval)
	if err != nil {
		window = time.Second
	}
	float := func(f float64) *float64 { return &f }
	return &wire.Top{
		Time: time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC), WindowMS: window.Milliseconds(), ClusterID: "0b1c5a1e-58a0-4a2d-8f0e-1c1f3c1d2e3f",
		Leader: "rack-1", Alive: 2, CallsPerSecond: 1234.5, InFlight: 12, Queued: 3, Missing: []string{"rack-3"},
		Nodes: []wire.TopNode{
			{
				ID: "n1", Name: "rack-1", Leader: true, Alive: true, CPUPercent: float(63.2), MemoryUsedBytes: 12 << 30, MemoryBudgetBytes: 18 << 30,
				Idle: 4, Busy: 10, Starting: 1, InFlight: 11, Queued: 3, CallsPerSecond: 234.5,
			},
			{ID: "n2", Name: "rack-2", Alive: true, Draining: true, MemoryBudgetBytes: 18 << 30, Busy: 1, InFlight: 1, CallsPerSecond: 1000},
			{ID: "n3", Name: "rack-3", Error: "did not answer"},
			{ID: "n4", Name: "rack-4", Alive: true, Error: "did not answer"},
		},
		Functions: []wire.TopFunction{
			{
				App: "default", Function: "hello", Version: 2, Aliases: []string{"live", "stable"}, Calls: 1230, CallsPerSecond: 1230, InFlight: 2,
				Instances: 11, Nodes: 2, ColdRatio: float(0), P50MS: float(0.31), P99MS: float(4.6),
			},
			{
				App: "shop", Function: "photographs-thumbnail", Version: 17, Aliases: []string{"live"}, Calls: 4, Errors: 1, Cold: 1, CallsPerSecond: 4.5,
				ErrorsPerSecond: 0.5, InFlight: 10, Queued: 3, Instances: 4, Starting: 1, Nodes: 1, ColdRatio: float(0.25), P50MS: float(812), P99MS: float(12345),
			},
			{App: "shop", Function: "idle", Version: 1, Instances: 1, Nodes: 1},
		},
	}
}

// TestTopLines compares what is drawn for several sizes. Rewrite the
// expectations with UPDATE_SCRIPTS=1.
func TestTopLines(t *testing.T) {
	t.Parallel()
	calls := topOrder{by: "calls"}
	for _, c := range []struct {
		name          string
		top           *wire.Top
		order         topOrder
		width, height int
	}{
		{"plain", busyTop(""), calls, 0, 0},
		{"width-160", busyTop(""), calls, 160, 40},
		{"width-80", busyTop(""), calls, 80, 24},
		{"width-40", busyTop(""), calls, 40, 24},
		{"width-10", busyTop(""), calls, 10, 24},
		{"height-11", busyTop(""), calls, 80, 11},
		{"height-3", busyTop(""), calls, 80, 3},
		{"by-p99", busyTop(""), topOrder{by: "p99"}, 80, 24},
		{"by-name-reversed", busyTop(""), topOrder{by: "name", reverse: true}, 80, 24},
		{"nothing", &wire.Top{Nodes: []wire.TopNode{{Name: "n", Alive: true}}, Alive: 1}, calls, 80, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines := topLines(c.top, c.order, c.width, c.height)
			if c.height > 0 && len(lines) > c.height {
				t.Errorf("%d lines for %d", len(lines), c.height)
			}
			for _, line := range lines {
				if n := len([]rune(line)); c.width > 0 && n > c.width {
					t.Errorf("%d columns for %d: %q", n, c.width, line)
				}
			}
			golden(t, "top-"+c.name+".golden", strings.Join(lines, "\n")+"\n")
		})
	}
}

// golden compares with a file in testdata, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "top", name)
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestEverySortOrdersFunctions(t *testing.T) {
	t.Parallel()
	for _, o := range topSorts() {
		up, down := busyTop(""), busyTop("")
		topOrder{by: o.name}.sortFunctions(up.Functions)
		topOrder{by: o.name, reverse: true}.sortFunctions(down.Functions)
		if fmt.Sprint(up.Functions) == fmt.Sprint(down.Functions) {
			t.Errorf("%s orders nothing", o.name)
		}
	}
}

func TestPercentCellNeverRoundsToNothingOrAll(t *testing.T) {
	t.Parallel()
	for ratio, want := range map[float64]string{0: "0%", 0.00001: "<0.1%", 0.012: "1.2%", 0.25: "25%", 0.9999: "99%", 1: "100%"} {
		if got := percentCell(ratio); got != want {
			t.Errorf("%v is shown as %q, want %q", ratio, got, want)
		}
	}
}
