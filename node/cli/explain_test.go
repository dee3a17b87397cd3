package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/scheduler"
)

// TestEveryReasonIsExplained keeps the words of the scheduler and their meaning
// together.
func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	reason := scheduler.ReasonWarm
	for ; !strings.HasPrefix(reason.String(), "reason("); reason++ {
		if word := reason.String(); !strings.HasPrefix(reasonText(word), word+": ") {
			t.Errorf("%q has no explanation", word)
		}
	}
	if reason == scheduler.ReasonWarm {
		t.Error("there are no reasons")
	}
}

func TestWaySumsUpAttempts(t *testing.T) {
	t.Parallel()
	refused := wire.AttemptRecord{Node: "b", Error: "full"}
	for _, c := range []struct {
		name     string
		attempts []wire.AttemptRecord
		want     string
	}{
		{"here", []wire.AttemptRecord{{Node: "a"}}, "ran where it entered"},
		{"elsewhere", []wire.AttemptRecord{{Node: "b"}}, "forwarded to node B"},
		{"after a refusal", []wire.AttemptRecord{refused, {Node: "a"}}, "2 attempts: 1 refused, ran where it entered"},
		{"refused by all", []wire.AttemptRecord{refused, refused}, "2 attempts: 2 refused, no node answered"},
		{"broken", []wire.AttemptRecord{{Node: "b", Error: "reset", Started: true}}, "1 broke off, no node answered"},
		{"nowhere", nil, "sent nowhere: it ended before a node was chosen"},
	} {
		if got := way(&wire.Record{Entry: "a", Attempts: c.attempts}, strings.ToUpper); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTimeInNoStepIsShown(t *testing.T) {
	t.Parallel()
	at := &wire.AttemptRecord{Took: 10 * time.Millisecond, Steps: []wire.Step{{Name: "place", Took: time.Second}, {Name: "run", Took: 6 * time.Millisecond}}}
	var b strings.Builder
	if err := showAttempt(&b, 1, at, strings.ToUpper); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "other") || !strings.Contains(b.String(), "4.0 ms") {
		t.Error(b.String())
	}
}
