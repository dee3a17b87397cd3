package assign

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/covey-dev/covey/cluster/state"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata")

// TestTranscripts runs the scenarios in testdata: blocks of steps, a line
// "----", and the answers. Review a rewritten file as a diff.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := transcript(t, string(data))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(data), got); diff != "" {
				t.Errorf("run with -rewrite to accept (-file +run):\n%s", diff)
			}
		})
	}
}

// transcript replays the steps of a text and fills in the answers.
func transcript(t *testing.T, text string) string {
	s := newScenario()
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		steps, _, answered := strings.Cut(block+"\n", "----\n")
		out.WriteString(steps)
		var answers strings.Builder
		for line := range strings.Lines(steps) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				answers.WriteString(s.step(t, line))
			}
		}
		if answered || answers.Len() > 0 {
			out.WriteString("----\n" + answers.String())
		}
	}
	return out.String()
}

// TestPlanProperties lets a random cluster live and checks each plan.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newScenario()
		steps := rapid.IntRange(1, 25).Draw(t, "steps")
		for range steps {
			drawStep(t, s)
			if rapid.Bool().Draw(t, "plan") {
				checkPlan(t, s)
			}
		}
		checkPlan(t, s)
	})
}

// drawStep changes the cluster; refusals are part of life.
func drawStep(t *rapid.T, s *scenario) {
	node := fmt.Sprint("n", rapid.IntRange(1, 6).Draw(t, "node"))
	fn := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "fn")
	small := rapid.Uint32Range(0, 9).Draw(t, "small")
	switch rapid.IntRange(0, 10).Draw(t, "step") {
	case 0, 1, 2:
		_ = s.node(node, rapid.SampledFrom([]string{"amd64", "arm64"}).Draw(t, "arch"), "go")
	case 3, 4:
		arch := rapid.SampledFrom([]string{"", "", "arm64"}).Draw(t, "code")
		_ = s.deploy(fn, arch, small, rapid.Uint32Range(0, 50).Draw(t, "queue"), small/2)
	case 5:
		_ = s.drain(node, small < 5)
	case 6:
		_ = s.remove(node)
	case 7:
		_ = s.setSilent(node, small < 5)
	case 8:
		s.now = s.now.Add(time.Duration(small) * 2 * time.Second)
	case 9:
		_ = s.alias(fn, "live", uint64(small))
	case 10:
		_ = s.delete(fn)
	}
}

func checkPlan(t *rapid.T, s *scenario) {
	changes := s.plan()
	if !reflect.DeepEqual(changes, s.plan()) {
		t.Fatal("two plans of one state differ")
	}
	skipped, err := s.commit(changes)
	if err != nil || len(skipped) > 0 {
		t.Fatalf("a fresh plan was not applied: %v, skipped %q", err, skipped)
	}
	if again := s.plan(); len(again) > 0 {
		t.Fatalf("planning again changes %v", again)
	}
	view, live := s.store.View(), s.live()
	for _, f := range view.Functions("") {
		for _, v := range f.Versions {
			checkVersion(t, s, view, live, f, v)
		}
	}
}

func checkVersion(t *rapid.T, s *scenario, view *state.View, live map[state.NodeID]Liveness, f *state.Function, v *state.Version) {
	var able []state.NodeID
	for _, m := range view.Members() {
		if m.Eligible(v.Config) && !m.Draining && s.now.Sub(live[m.ID].LastContact) < SilentAfter {
			able = append(able, m.ID)
		}
	}
	limit, least := int(v.Config.GetMax()), int(v.Config.GetMin())
	if !f.Named(v.Key.Number) {
		least = 0
	}
	a := view.Assignment(v.Key)
	if a == nil {
		if len(able) > 0 && (limit > 0 || least > 0) {
			t.Fatalf("%s has no assignment, though %v could run it", v.Key, able)
		}
		return
	}
	var sum state.Place
	for _, p := range a.Places {
		sum.Max, sum.Queue, sum.Provisioned = sum.Max+p.Max, sum.Queue+p.Queue, sum.Provisioned+p.Provisioned
		if m := view.Member(p.Node); m == nil || m.Draining || !m.Eligible(v.Config) {
			t.Fatalf("%s has a place on %+v", v.Key, m)
		}
		if len(able) > 0 && !slices.Contains(able, p.Node) {
			t.Fatalf("%s has a place on the silent node %s", v.Key, p.Node)
		}
	}
	if limit > 0 && (a.Everywhere || sum.Max != limit || sum.Queue != int(v.Config.GetQueue())) {
		t.Fatalf("%s: shares %+v, max %d, queue %d", v.Key, sum, limit, v.Config.GetQueue())
	}
	if limit == 0 && (!a.Everywhere || sum.Max != 0) {
		t.Fatalf("%s has no max, its assignment is %+v", v.Key, a)
	}
	if sum.Provisioned != least {
		t.Fatalf("%s has %d provisioned, want %d", v.Key, sum.Provisioned, least)
	}
	if len(able) > 0 && limit > 0 && len(a.Places) != min(limit, len(able)) {
		t.Fatalf("%s has %d places, able are %v", v.Key, len(a.Places), able)
	}
}

func TestUnknownMembersCountAsSilent(t *testing.T) {
	t.Parallel()
	s := newScenario()
	for _, err := range []error{s.node("n1", "amd64", "go"), s.node("n2", "amd64", "go"), s.deploy("f", "", 4, 8, 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	changes := Plan(s.store.View(), map[state.NodeID]Liveness{"n2": {LastContact: s.now}}, s.now)
	if len(changes) != 1 || describe(changes[0]) != "shop/f:1: n2(max 4 queue 8 warm 0)\n" {
		t.Fatalf("changes are %v", changes)
	}
}

func TestCommandsKeepTheirBounds(t *testing.T) {
	t.Parallel()
	var changes []Change
	for i := range 1200 {
		key := state.VersionKey{App: "a", Function: "f", Number: state.VersionNumber(i + 1)}
		c := Change{Version: key}
		if i%2 == 0 {
			c.Put = &state.Assignment{Version: key, Places: make([]state.Place, 100)}
		}
		changes = append(changes, c)
	}
	total := 0
	for _, cmd := range Commands(changes) {
		op := cmd.GetPutAssignments()
		n, places := len(op.GetPut())+len(op.GetDrop()), 0
		for _, a := range op.GetPut() {
			places += len(a.GetPlaces())
		}
		if n > batchChanges || places > batchPlaces || n == 0 {
			t.Fatalf("a command holds %d changes and %d places", n, places)
		}
		total += n
	}
	if total != len(changes) {
		t.Fatalf("%d of %d changes are in commands", total, len(changes))
	}
	if Commands(nil) != nil {
		t.Fatal("no change makes a command")
	}
	one := Change{Put: &state.Assignment{Places: make([]state.Place, batchPlaces+1)}}
	if got := len(Commands([]Change{one, one})); got != 2 {
		t.Fatalf("two changes above the bound make %d commands", got)
	}
}

func BenchmarkPlanUnchanged(b *testing.B) {
	s := newScenario()
	for i := range 100 {
		if err := s.node(fmt.Sprintf("n%03d", i), "amd64", "go"); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 500 {
		if err := s.deploy(fmt.Sprint("f", i), "", 200, 100, 3); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.commit(s.plan()); err != nil {
		b.Fatal(err)
	}
	live := s.live()
	for b.Loop() {
		if got := Plan(s.store.View(), live, s.now); len(got) != 0 {
			b.Fatal(got)
		}
	}
}
