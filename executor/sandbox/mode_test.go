//go:build linux && (amd64 || arm64)

package sandbox

import (
	"strings"
	"testing"
)

func TestModesAreOrderedByLevel(t *testing.T) {
	t.Parallel()
	for _, euid := range []int{0, nobody} {
		last := LevelLimited
		for _, m := range modesFor(euid) {
			level := m.level(true, true)
			if level > last {
				t.Errorf("user %d: %q has level %v after %v", euid, m.name, level, last)
			}
			if m.uids && euid != 0 || m.userns && euid == 0 {
				t.Errorf("user %d: %q cannot work", euid, m.name)
			}
			last = level
		}
		if last != LevelNone {
			t.Errorf("user %d: the last mode is of level %v", euid, last)
		}
	}
}

func TestLevelNeedsEverythingItPromises(t *testing.T) {
	t.Parallel()
	full := modesFor(0)[0]
	for _, tc := range []struct {
		network, memory bool
		want            Level
	}{{true, true, LevelLimited}, {false, true, LevelIsolated}, {true, false, LevelIsolated}} {
		if got := full.level(tc.network, tc.memory); got != tc.want {
			t.Errorf("network %v, memory %v: %v", tc.network, tc.memory, got)
		}
	}
	full.seccomp = false
	if got := full.level(true, true); got != LevelHidden {
		t.Errorf("without filter: %v", got)
	}
}

func TestModesDescribeThemselves(t *testing.T) {
	forEachMode(t, anything, func(t *testing.T, s *Sandbox) {
		d := s.Describe()
		if d.Level != s.Level() || len(d.Features) != 7 {
			t.Errorf("%+v", d)
		}
		if d.Level < LevelLimited && len(d.Warnings) == 0 {
			t.Errorf("level %v without a warning", d.Level)
		}
		if d.Level == LevelNone && !strings.Contains(strings.Join(d.Warnings, "\n"), "data directory included") {
			t.Errorf("warnings %q", d.Warnings)
		}
		d.Features[0].Name = "changed"
		if s.Describe().Features[0].Name == "changed" {
			t.Error("the description can be changed from outside")
		}
	})
}

// TestFallsBackWhenAModeDoesNotWork gives a machine's best mode a step that fails.
func TestFallsBackWhenAModeDoesNotWork(t *testing.T) {
	t.Parallel()
	needRoot(t)
	impossible := mode{name: "impossible", userns: true, namespaces: true, uids: true, template: true, seccomp: true}
	s := newSandbox(t, append([]mode{impossible}, modesFor(0)...)...)
	if s.mode.name != modesFor(0)[0].name {
		t.Errorf("chose %q", s.mode.name)
	}
	if len(s.Describe().Warnings) != 1 || !strings.Contains(s.Describe().Warnings[0], "impossible") {
		t.Errorf("warnings %q", s.Describe().Warnings)
	}
	startChild(t, s, "exit3").wait(t)
}

func TestSlotsAreNotSharedWhileInUse(t *testing.T) {
	t.Parallel()
	s := newSlots(Config{DataDir: "/x", UIDBase: 5000, UIDCount: 3})
	seen := map[uint32]bool{}
	for range 3 {
		slot, err := s.take()
		if err != nil || seen[s.uid(slot)] || s.uid(slot) < 5000 || s.uid(slot) > 5002 {
			t.Fatalf("slot %d, user %d, %v", slot, s.uid(slot), err)
		}
		seen[s.uid(slot)] = true
	}
	if _, err := s.take(); err == nil {
		t.Error("a fourth of three")
	}
	s.give(2)
	s.give(0)
	if slot, err := s.take(); slot != 2 || err != nil {
		t.Errorf("got %d, %v; the one given back first is the cleanest", slot, err)
	}
}
