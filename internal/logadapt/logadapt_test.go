package logadapt

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// events decodes what was logged.
func events(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for dec := json.NewDecoder(out); dec.More(); {
		var e map[string]any
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestHCLogKeepsLevelNameAndFields(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewHCLog(zerolog.New(&out), "raft").With("peer", "n1").Named("snapshot")
	log.Warn("slow disk", "took", 2*time.Second, "error", errors.New("boom"),
		"last-index", uint64(7), "what", hclog.Fmt("%d of %d", 1, 2))
	want := []map[string]any{{
		"level": "warn", "message": "slow disk", "library": "raft.snapshot", "peer": "n1",
		"took": "2s", "err": "boom", "last_index": 7.0, "what": "1 of 2",
	}}
	if diff := cmp.Diff(want, events(t, &out)); diff != "" {
		t.Error(diff)
	}
}

func TestHCLogFollowsTheDaemonsLevel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewHCLog(zerolog.New(&out).Level(zerolog.WarnLevel), "raft")
	log.SetLevel(hclog.Trace) // a library may not make itself louder
	log.Trace("t")
	log.Debug("d")
	log.Info("i")
	log.Error("e")
	if got := events(t, &out); len(got) != 1 || got[0]["level"] != "error" {
		t.Errorf("logged %v", got)
	}
	if log.IsInfo() || !log.IsWarn() || log.GetLevel() != hclog.Warn {
		t.Errorf("levels: info %v, warn %v, level %v", log.IsInfo(), log.IsWarn(), log.GetLevel())
	}
}

func TestHCLogSurvivesOddArguments(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewHCLog(zerolog.New(&out), "x")
	log.Info("odd", 1, "a", "alone")
	log.Info("empty format", "f", hclog.Format{})
	want := []map[string]any{
		{"level": "info", "message": "odd", "library": "x", "1": "a", "extra": "alone"},
		{"level": "info", "message": "empty format", "library": "x", "f": ""},
	}
	if diff := cmp.Diff(want, events(t, &out)); diff != "" {
		t.Error(diff)
	}
	if got := log.Named("y").ResetNamed("z").Name(); got != "z" {
		t.Errorf("name %q", got)
	}
	if got := NewHCLog(zerolog.Nop(), "x").GetLevel(); got != hclog.Off {
		t.Errorf("level of a silent logger: %v", got)
	}
}

func TestStandardReadsLevels(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line, level, message string
	}{
		{"[DEBUG] memberlist: stream", "debug", "memberlist: stream"},
		{"[WARN] memberlist: refuting", "warn", "memberlist: refuting"},
		{"[ERR] memberlist: push/pull", "error", "memberlist: push/pull"},
		{"[INFO] hello\n", "info", "hello"},
		{"no level", "info", "no level"},
		{"[odd] word", "info", "[odd] word"},
		{"[ERR without end", "info", "[ERR without end"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			NewStandard(zerolog.New(&out), "memberlist").Print(tt.line)
			want := []map[string]any{{"level": tt.level, "message": tt.message, "library": "memberlist"}}
			if diff := cmp.Diff(want, events(t, &out)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStandardDropsQuietAndEmptyLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewStandard(zerolog.New(&out).Level(zerolog.InfoLevel), "m")
	log.Print("[DEBUG] quiet")
	log.Print("")
	NewHCLog(zerolog.New(&out).Level(zerolog.InfoLevel), "m").StandardLogger(nil).Print("[TRACE] quiet")
	if out.Len() != 0 {
		t.Errorf("logged %q", out.String())
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("[WARN] x")
	f.Add("[")
	f.Fuzz(func(t *testing.T, line string) {
		if _, msg := parseLine(line); len(msg) > len(line) {
			t.Errorf("%q became longer: %q", line, msg)
		}
	})
}

func TestHCLogThinsOutWhatRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := NewHCLog(zerolog.New(&out), "raft")
		for range 100 {
			log.Error("failed to heartbeat", "peer", "a", "backoff time", time.Second)
			log.Named("x").Error("failed to heartbeat", "peer", "b")
		}
		if got := events(t, &out); len(got) != 2*dampFirst {
			t.Errorf("%d events of 200, want the first %d of each peer", len(got), dampFirst)
		}
		time.Sleep(dampEvery + time.Second)
		log.Error("failed to heartbeat", "peer", "a")
		log.Error("failed to heartbeat", "peer", "a")
		if got := events(t, &out); len(got) != 1 {
			t.Errorf("%d events after a pause, want one", len(got))
		}
	})
}

func TestHCLogRemembersABoundedNumberOfKinds(t *testing.T) {
	t.Parallel()
	log := NewHCLog(zerolog.Nop().Level(zerolog.DebugLevel), "raft")
	for i := range 3 * dampKinds {
		log.Error("message", "peer", i)
	}
	if n := len(log.damp.kinds); n > dampKinds {
		t.Errorf("%d kinds are remembered, the bound is %d", n, dampKinds)
	}
}
