package sandbox

import (
	"strings"
	"testing"
)

func TestConfigReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.DataDir = "/var/lib/covey"
	if err := cfg.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	err := Config{DataDir: "relative", RunDir: "too", UIDBase: 5}.Validate()
	for _, field := range []string{"DataDir", "RunDir", "UIDBase", "UIDCount"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	cfg.UIDBase, cfg.UIDCount = 1<<32-10, 10
	if cfg.Validate() == nil {
		t.Error("a range that ends at the invalid user id passes")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New takes an invalid configuration")
	}
}

func TestLevelsHaveNames(t *testing.T) {
	t.Parallel()
	for l := LevelNone; l <= LevelLimited; l++ {
		if got, err := ParseLevel(l.String()); got != l || err != nil {
			t.Errorf("%v reads as %v, %v", l, got, err)
		}
	}
	if _, err := ParseLevel("fort knox"); err == nil {
		t.Error("an unknown level passes")
	}
	if got := Level(9).String(); got != "level(9)" {
		t.Error(got)
	}
}
